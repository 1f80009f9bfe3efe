"""The two reference networks: a spiking convolutional stack on event frames, and its non-spiking twin on summed frames.

Both run under parameters handed in from outside (`apply_params`, or `torch.func.functional_call`), which is all that
meta-learning asks of them. `initialize` sets their weights from data. How they learn is for `maml` and `transfer`.

Their parameters: `body.<i>.weight` [D, C, k, k] and `body.<i>.bias` [D] of each convolution (`body.<i>.scale` [D] too where it is
normalized), `head.weight` [ways, features] and `head.bias` [ways]; features are the last layer's, in the order H, W, C.
Where there is a `body.<i>.feedback` or `head.feedback` too (`align`), gradients pass down through it and not through the weight.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from baselines.snn import fft_conv
from baselines.snn.autograd import conv2d, pool2d, resting_steps, spike
from baselines.snn.neurons import (
    FAST_SIGMOID,
    Connection,
    Neuron,
    NeuronState,
    membranes_ahead,
    neuron_sequence,
)
from metaevents.errors import UsageError

logger = logging.getLogger(__name__)

Params = Mapping[str, Tensor]

_CACHED = (
    1 << 21
)  # membranes of a part of the burn-in on a CPU: an efficient convolution, yet not far from the cache

_SPECTRUM = (
    "spectrum"  # of a convolution's kernel, where `spectral` is faster; beside the parameters
)


@dataclass(frozen=True)
class StackConfig:
    """What both networks share; the defaults are the paper's, for Double N-MNIST.

    frame_shape: (T, P, H, W) of the event frames; the non-spiking twin ignores T.
    channels: of the convolutions, each followed by 2 x 2 pooling.
    pooling: "max" as the paper says, or "average" as its released code does.
    norm_groups: groups of a GroupNorm after each convolution, 0 for none. It sees one sample (and one time step) at a
        time, never a batch, so that no prediction depends on the other queries.
    """

    frame_shape: tuple[int, int, int, int] = (100, 2, 16, 32)
    ways: int = 5
    channels: tuple[int, ...] = (32, 64, 128)
    kernel: int = 5
    pooling: Literal["max", "average"] = "max"
    norm_groups: int = 0


@dataclass(frozen=True)
class SpikingConfig(StackConfig):
    """The spiking network.

    burn_in: frames at the beginning that carry no gradient.
    time_stride: frames averaged into one time step of the network; the paper has 1. Time constants stay what they are.
    input_gain: gain of the synapses that event counts arrive at.
    """

    burn_in: int = 70
    time_stride: int = 1
    input_gain: float = 10.0
    neuron: Neuron = field(default_factory=Neuron)


class _Stack(nn.Module):
    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.config = config
        _, polarities, height, width = config.frame_shape
        shrink = 2 ** len(config.channels)
        if config.kernel % 2 == 0 or min(height, width) < shrink:
            raise UsageError(
                f"A stack of {len(config.channels)} layers with a kernel of {config.kernel} does not fit frames of"
                f" {height} x {width}; give an odd kernel and frames of at least {shrink} x {shrink}."
            )
        if config.norm_groups and any(size % config.norm_groups for size in config.channels):
            raise UsageError(
                f"{config.norm_groups} groups of normalization do not fit layers of {list(config.channels)} channels; give a"
                " number that divides them all."
            )
        sizes = (polarities, *config.channels)
        self.body = nn.ModuleList(
            _parameters(
                (outputs, inputs, config.kernel, config.kernel), scaled=config.norm_groups > 0
            )
            for inputs, outputs in pairwise(sizes)
        )
        self.head = _parameters((config.ways, sizes[-1] * (height // shrink) * (width // shrink)))

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_params(dict(self.named_parameters()) | dict(self.named_buffers()), x)

    def apply_params(self, params: Params, x: Tensor) -> Tensor:
        """`forward` under other parameters: a pure function, which several threads may call at once."""
        raise NotImplementedError

    def features(self, params: Params, x: Tensor) -> Tensor:
        """What arrives at the head [n, features]: at the last step, and as potentials, where there are steps."""
        raise NotImplementedError

    def prepared(self, params: Params) -> Params:
        """`params` and what follows from them alone, for calls that share it; gradients pass through it to them."""
        return params

    def align(self, generator: torch.Generator | None = None) -> None:
        """Draw fixed random feedback for every layer above the first, as large as the layer's weights of the moment."""
        for layer in (*self.body[1:], self.head):
            weight = layer["weight"].detach()
            feedback = nn.init.orthogonal_(torch.empty_like(weight), generator=generator)
            layer.register_buffer("feedback", feedback * (weight.norm() / feedback.norm()))

    def _membranes(self, x: Tensor) -> Iterator[Callable[[], Tensor]]:
        """For each layer in order a function that gives its (pooled, last) membranes under its weights of the moment."""
        raise NotImplementedError

    def _convolve(self, params: Params, layer: int, x: Tensor) -> Tensor:
        # [N, H, W, C] -> [N, H, W, D]
        name, kernel = f"body.{layer}", self.config.kernel
        weight, bias, feedback = _layer(params, name)
        convolve = partial(conv2d, x, weight, feedback=feedback)
        if (spectrum := params.get(f"{name}.{_SPECTRUM}")) is not None:
            convolve = partial(
                fft_conv.conv2d,
                x,
                spectrum,
                kernel,
                feedback=params.get(f"{name}.feedback.{_SPECTRUM}"),
            )
        if not self.config.norm_groups:
            return convolve(bias=bias).to(x.dtype)
        y = convolve().to(x.dtype)
        groups = y.view(*y.shape[:-1], self.config.norm_groups, -1).movedim(-2, 1)
        normal = layer_norm(groups, groups.shape[2:]).movedim(1, -2).flatten(-2)
        return torch.addcmul(bias, normal, params[f"body.{layer}.scale"])

    def _read_out(self, params: Params, x: Tensor) -> Tensor:
        # [N, H, W, C] -> [N, ways]
        x, (weight, bias, feedback) = x.flatten(1), _layer(params, "head")
        if feedback is None:
            return linear(x, weight, bias).to(x.dtype)
        pixels = x[:, None, None]
        return conv2d(pixels, weight[..., None, None], bias, feedback[..., None, None]).to(x.dtype)[
            :, 0, 0
        ]

    def _check(self, x: Tensor, form: str, fits: bool) -> None:
        if not fits or x.shape[-3:] != self.config.frame_shape[1:]:
            raise UsageError(
                f"The network was given a tensor {list(x.shape)} and expects {form} with P, H, W ="
                f" {list(self.config.frame_shape[1:])}; make one whose frame_shape is the dataset's."
            )


def _layer(params: Params, name: str) -> tuple[Tensor, Tensor, Tensor | None]:
    return params[f"{name}.weight"], params[f"{name}.bias"], params.get(f"{name}.feedback")


def _parameters(shape: tuple[int, ...], scaled: bool = False) -> nn.ParameterDict:
    made = nn.ParameterDict({"weight": nn.init.orthogonal_(torch.empty(shape))})
    made["bias"] = torch.zeros(shape[0])
    if scaled:
        made["scale"] = torch.ones(shape[0])
    return made


class SpikingNet(_Stack):
    """The spiking stack: event frames [n, T, P, H, W] -> the output neurons' membranes at the last step [n, ways].

    The first `burn_in` steps carry no gradient, but run under the parameters given, adapted ones too.
    """

    representation = "frames"
    config: SpikingConfig

    def __init__(self, config: SpikingConfig | None = None) -> None:
        super().__init__(config or SpikingConfig())
        frames, burn_in, stride = (
            self.config.frame_shape[0],
            self.config.burn_in,
            self.config.time_stride,
        )
        inner = self.config.neuron.stretched(stride)
        self.neurons = (replace(inner, gain=self.config.input_gain), *(inner for _ in self.body))
        if stride < 1 or burn_in < 0 or not self._fits(frames):
            raise UsageError(
                f"A burn-in of {burn_in} frames and steps of {stride} do not fit {frames} frames; give a multiple of"
                f" {stride} and at least {len(self.neurons)} steps after the burn-in, one for each layer to answer."
            )

    def apply_params(self, params: Params, x: Tensor) -> Tensor:
        return membranes_ahead(*self._at_head(params, x))[-1]

    def features(self, params: Params, x: Tensor) -> Tensor:
        return neuron_sequence(*self._at_head(params, x))[1].potential.flatten(1)

    def prepared(self, params: Params) -> Params:
        _, _, height, width = self.config.frame_shape
        found = dict(params)
        for layer in range(len(self.body)):
            frame, name = (height >> layer, width >> layer), f"body.{layer}"
            if f"{name}.{_SPECTRUM}" in params or not fft_conv.worthwhile(
                frame, params[f"{name}.weight"]
            ):
                continue
            for kernel, of in ((f"{name}.weight", name), (f"{name}.feedback", f"{name}.feedback")):
                if kernel in params:
                    found[f"{of}.{_SPECTRUM}"] = fft_conv.spectrum(params[kernel], frame)
        return found

    def _at_head(
        self, params: Params, x: Tensor
    ) -> tuple[Tensor, NeuronState | None, Connection, Neuron]:
        # The head's incoming spikes [T, n, H, W, C] after the burn-in, and its state, connection and neuron.
        frames, connections = self._frames(x), self._connections(self.prepared(params))
        biases = [params[f"body.{layer}.bias"] for layer in range(len(self.body))]
        burn_in = self.config.burn_in // self.config.time_stride
        with torch.no_grad():
            states = self._burn_in(frames[:burn_in], connections, biases)
        # Every layer answers one step later, so the last membranes know nothing of the last few frames.
        spikes = frames[burn_in : len(frames) - len(connections)]
        *body, head = zip(connections, states, self.neurons, strict=True)
        for connection, state, neuron in body:
            spikes = spike(
                self._pool(membranes_ahead(spikes, state, connection, neuron)), neuron.surrogate
            )
        connection, state, neuron = head
        return spikes, state, connection, neuron

    def _frames(self, x: Tensor) -> Tensor:
        stride = self.config.time_stride
        self._check(
            x,
            f"[n, {self.config.frame_shape[0]}, P, H, W]",
            x.dim() == 5 and self._fits(x.shape[1]),
        )
        x = x.to(self.head["weight"].dtype)
        if stride > 1:
            x = x.view(len(x), -1, stride, *x.shape[2:]).mean(2)
        return x.permute(1, 0, 3, 4, 2).contiguous()

    def _fits(self, frames: int) -> bool:
        # Fewer frames than the dataset's will do, where some are left for each layer to answer.
        steps, stride = frames // self.config.time_stride, self.config.time_stride
        return frames % stride == 0 and steps >= self.config.burn_in // stride + len(self.neurons)

    def _connections(self, params: Params) -> list[Connection]:
        def convolution(layer: int, potentials: Tensor) -> Tensor:
            return _over_time(partial(self._convolve, params, layer), potentials)

        head = partial(_over_time, partial(self._read_out, params))
        return [*(partial(convolution, layer) for layer in range(len(self.body))), head]

    def _burn_in(
        self, frames: Tensor, connections: list[Connection], biases: list[Tensor]
    ) -> list[NeuronState | None]:
        states: list[NeuronState | None] = [None] * len(connections)
        if not len(frames):
            return states
        *body, (read_out, last) = zip(connections, self.neurons, strict=True)
        # On a CPU one part of the time after the other goes through all layers, so that it stays near the cache.
        size = len(frames)
        if frames.device.type == "cpu":
            size = max(1, _CACHED // (frames[0, ..., 0].numel() * len(biases[0])))
        features = []
        for spikes in torch.split(frames, size):
            for layer, (connection, neuron) in enumerate(body):
                spikes, states[layer] = self._fire(
                    spikes, states[layer], connection, biases[layer], neuron
                )
            features.append(spikes)
        states[-1] = neuron_sequence(torch.cat(features), None, read_out, last)[1]
        return states

    def _fire(
        self,
        spikes: Tensor,
        state: NeuronState | None,
        connection: Connection,
        bias: Tensor,
        neuron: Neuron,
    ) -> tuple[Tensor, NeuronState | None]:
        # The pooled spikes of a layer and the state after. What comes before the first spike is skipped on a CPU, where the
        # layer is at rest and its bias leaves it so.
        rest = 0
        if state is None and spikes.device.type == "cpu" and neuron.surrogate is FAST_SIGMOID:
            rest = resting_steps(spikes, bias)
        fired = []
        if rest:
            _, n, height, width, _ = spikes.shape
            fired.append(spikes.new_zeros((rest, n, height // 2, width // 2, len(bias))))
        if rest < len(spikes):
            u, state = neuron_sequence(spikes[rest:], state, connection, neuron)
            fired.append(spike(self._pool(u), neuron.surrogate))
        return torch.cat(fired) if len(fired) > 1 else fired[0], state

    def _pool(self, u: Tensor) -> Tensor:
        return _over_time(partial(pool2d, pooling=self.config.pooling), u)

    def _membranes(self, x: Tensor) -> Iterator[Callable[[], Tensor]]:
        spikes, connections = self._frames(x), self._connections(dict(self.named_parameters()))
        for connection, neuron in zip(connections[:-1], self.neurons, strict=False):
            pooled = partial(self._pooled, spikes, connection, neuron)
            yield partial(_last, pooled)
            spikes = spike(pooled(), neuron.surrogate)
        yield lambda: neuron_sequence(spikes, None, connections[-1], self.neurons[-1])[0][-1]

    def _pooled(self, spikes: Tensor, connection: Connection, neuron: Neuron) -> Tensor:
        return self._pool(neuron_sequence(spikes, None, connection, neuron)[0])


class ConvNet(_Stack):
    """The non-spiking twin: event counts summed over time [n, P, H, W] (or frames, which it sums) -> logits [n, ways]."""

    representation = "sum"

    def __init__(self, config: StackConfig | None = None) -> None:
        super().__init__(config or StackConfig())

    def apply_params(self, params: Params, x: Tensor) -> Tensor:
        return self._read_out(params, self.features(params, x))

    def features(self, params: Params, x: Tensor) -> Tensor:
        activity = self._counts(x)
        for layer in range(len(self.body)):
            activity = torch.relu(self._pooled(params, layer, activity))
        return activity.flatten(1)

    def _counts(self, x: Tensor) -> Tensor:
        self._check(x, "[n, P, H, W] or [n, T, P, H, W]", x.dim() in (4, 5))
        dtype = self.head["weight"].dtype
        counts = x.sum(1, dtype=dtype) if x.dim() == 5 else x.to(dtype)
        return counts.permute(0, 2, 3, 1).contiguous()

    def _pooled(self, params: Params, layer: int, activity: Tensor) -> Tensor:
        return pool2d(self._convolve(params, layer, activity), self.config.pooling)

    def _membranes(self, x: Tensor) -> Iterator[Callable[[], Tensor]]:
        activity, params = self._counts(x), dict(self.named_parameters())
        for layer in range(len(self.body)):
            pooled = partial(self._pooled, params, layer, activity)
            yield pooled
            activity = torch.relu(pooled())
        yield lambda: self._read_out(params, activity)


def _last(sequence: Callable[[], Tensor]) -> Tensor:
    return sequence()[-1]


def _over_time(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    # A function of frames on a sequence of them, [T, n, ...].
    y = function(x.flatten(0, 1))
    return y.view(*x.shape[:2], *y.shape[1:])
