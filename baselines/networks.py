"""The two reference networks, after Stewart and Neftci (2022): a spiking and a non-spiking one.

`SpikingNet` has spiking convolutional layers on event frames, `ConvNet` the same layers without
spikes on frames summed over time. Both are pure functions of parameters that are passed in
(`apply_params`), which is what meta-learning needs.

Parameters, by name: `body.<i>.weight` [D, C, k, k] and `body.<i>.bias` [D] of each convolution,
`body.<i>.scale` [D] of its normalization if there is one, `head.weight` [ways, features] and
`head.bias` [ways]. The features are the last convolution's output, flattened in the order H, W, C.
Where `align` has added `body.<i>.feedback` or `head.feedback`, gradients reach the layer below
through the feedback instead of the weight. `align_directly` adds `body.<i>.direct` [ways, features
of the layer], by which `direct_logits` brings the output error to each layer.

Initial weights are left to `init`, learning to `maml` and `transfer`, the neuron's equations to
`snn.neurons`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from baselines.config import check_channels
from baselines.inference_mode import leaves_inference_mode
from baselines.parallel import linear_in_order
from baselines.snn import fft_conv
from baselines.snn.autograd import conv2d, pool2d, pool_spike, resting_steps, spike
from baselines.snn.neurons import (
    FAST_SIGMOID,
    Connection,
    Neuron,
    NeuronState,
    fired_sequence,
    membranes_ahead,
    neuron_sequence,
    potential_ahead,
)
from metaevents.arguments import whole_number
from metaevents.errors import UsageError

Params = Mapping[str, Tensor]
"""Tensors by name: parameters, and constants such as feedback."""

Record = Callable[[Tensor, Tensor], None]
"""Called with the operands of a layer's weights [N, ...] and their products [N, ...]."""

# Membranes per part of the burn-in on a CPU: enough for an efficient convolution, few enough to
# stay near the cache.
_BURN_IN_MEMBRANES = 1 << 21

# Suffix of a kernel's spectrum, which stands beside the parameters where `fft_conv` is faster.
_SPECTRUM = "spectrum"

_DIRECT = "direct"


@dataclass(frozen=True)
class StackConfig:
    """The architecture that both networks share; the defaults are the paper's, for Double N-MNIST.

    Attributes:
        frame_shape: (T, P, H, W) of the event frames; the non-spiking network ignores T.
        ways: Number of outputs.
        channels: Output channels of each convolution; 2 x 2 pooling follows each.
        kernel: Side of the square kernels, in cells; odd.
        pooling: "max" as in the paper, or "average" as in its released code.
        norm_groups: Groups of the group normalization (Wu and He 2018) after each convolution; 0
            for none. It normalizes each sample and time step by itself, so that no prediction
            depends on the other queries.
    """

    frame_shape: tuple[int, int, int, int] = (100, 2, 16, 32)
    ways: int = 5
    channels: tuple[int, ...] = (32, 64, 128)
    kernel: int = 5
    pooling: Literal["max", "average"] = "max"
    norm_groups: int = 0

    def __post_init__(self) -> None:
        """Check every field, and make numbers of other libraries Python numbers."""
        if self.pooling not in ("max", "average"):
            raise UsageError(f"pooling={self.pooling!r}; choose max or average")
        checked = {
            "frame_shape": tuple(
                whole_number("a size in frame_shape", size, least=1) for size in self.frame_shape
            ),
            "ways": whole_number("ways", self.ways, least=1),
            "channels": check_channels(self.channels),
            "kernel": whole_number("kernel", self.kernel, least=1),
            "norm_groups": whole_number("norm_groups", self.norm_groups, least=0),
        }
        if len(self.frame_shape) != 4:
            raise UsageError(f"frame_shape={self.frame_shape}; give the four sizes T, P, H, W")
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class SpikingConfig(StackConfig):
    """The architecture of the spiking network.

    Attributes:
        burn_in: First frames of a sample, which carry no gradient.
        time_stride: Frames that are averaged into one time step of the network; 1 in the paper. The
            neurons' time constants in milliseconds do not change.
        input_gain: Gain of the synapses that receive the event counts.
        neuron: Constants of all neurons; its gain applies above the first layer.
    """

    burn_in: int = 70
    time_stride: int = 1
    input_gain: float = 10.0
    neuron: Neuron = field(default_factory=Neuron)

    def __post_init__(self) -> None:
        """Check every field; see `StackConfig`."""
        super().__post_init__()
        for name, least in (("burn_in", 0), ("time_stride", 1)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least=least))


def parameter_shapes(config: StackConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's parameters by name, in the order of its state.

    Args:
        config: The architecture.

    Raises:
        UsageError: The architecture does not fit the frames.
    """
    _, polarities, height, width = config.frame_shape
    shrink = 2 ** len(config.channels)
    if config.kernel % 2 == 0 or min(height, width) < shrink:
        raise UsageError(
            f"{len(config.channels)} layers with a kernel of {config.kernel} do not fit"
            f" frames of {height} x {width}; give an odd kernel, and frames of at least"
            f" {shrink} x {shrink}"
        )
    if config.norm_groups and any(size % config.norm_groups for size in config.channels):
        raise UsageError(
            f"norm_groups={config.norm_groups} does not fit layers of {list(config.channels)}"
            " channels; give a divisor of all of them"
        )
    sizes = (polarities, *config.channels)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        shapes[f"body.{layer}.weight"] = (outputs, inputs, config.kernel, config.kernel)
        shapes[f"body.{layer}.bias"] = (outputs,)
        if config.norm_groups:
            shapes[f"body.{layer}.scale"] = (outputs,)
    features = sizes[-1] * (height // shrink) * (width // shrink)
    return {**shapes, "head.weight": (config.ways, features), "head.bias": (config.ways,)}


def fill_orthogonal(tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fill a tensor with a random orthogonal matrix, in place, and return it.

    The numbers are drawn on the device of the generator. So a generator of the CPU gives equal
    numbers for tensors of all devices.

    Args:
        tensor: At least two-dimensional.
        generator: Draws the numbers; None uses torch's global generator of the tensor's device.
    """
    if generator is None:
        return nn.init.orthogonal_(tensor)
    drawn = torch.empty(tensor.shape, dtype=tensor.dtype, device=generator.device)
    nn.init.orthogonal_(drawn, generator=generator)
    with torch.no_grad():
        return tensor.copy_(drawn)


@contextmanager
def _without_graph() -> Iterator[None]:
    """Compute without a graph, and leave nothing of it to later steps.

    Autocast of torch 2.4 would use the weights again that it cast here, and they have no gradient.
    """
    with torch.no_grad():
        yield
    torch.clear_autocast_cache()


@dataclass(frozen=True)
class LayerTrace:
    """What went through one layer in a forward pass; see `SpikingNet.trace`.

    The head's sizes H and W are 1, and its C is the number of features.

    Attributes:
        name: The layer's name: "body.0", "head".
        inputs: What arrived in each time step [T, n, H, W, C]: event counts, spikes or activities.
        operands: What the weights were multiplied by in the steps that carry a gradient
            [S, n, H, W, C]: the potentials P, or the activities.
        products: The weighted sums of those steps, in the graph [S * n, ...].
        sent: What the layer sent to the next one [T, n, H / 2, W / 2, D]: spikes or activities;
            None for the head.
        fired: Number of spikes of the layer's neurons, before pooling; None without spikes.
    """

    name: str
    inputs: Tensor
    operands: Tensor
    products: Tensor
    sent: Tensor | None
    fired: int | None


@dataclass(frozen=True)
class Trace:
    """A forward pass: the logits [n, ways], and what went through each layer, in order."""

    logits: Tensor
    layers: list[LayerTrace]


class _Stack(nn.Module):
    """Convolutions with pooling, and a linear head; subclasses define what lies between."""

    @leaves_inference_mode
    def __init__(self, config: StackConfig, device: torch.device | str) -> None:
        super().__init__()
        self.config, self.direct_feedback = config, False
        shapes = parameter_shapes(config)
        self.body = nn.ModuleList(
            _parameters(shapes, f"body.{layer}.", device) for layer in range(len(config.channels))
        )
        self.head = _parameters(shapes, "head.", device)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [n, ways] of samples [n, ...] under the network's own parameters."""
        return self.apply_params(dict(self.named_parameters()) | dict(self.named_buffers()), x)

    def apply_params(self, params: Params, x: Tensor) -> Tensor:
        """Return logits [n, ways] of samples [n, ...] under `params`.

        Several threads may call this at once.

        Args:
            params: Parameters and constants by name, see the module.
            x: Samples.
        """
        raise NotImplementedError

    def features(self, params: Params, x: Tensor) -> Tensor:
        """Return the input of the head [n, features].

        Args:
            params: Parameters and constants by name, see the module.
            x: Samples [n, ...].
        """
        raise NotImplementedError

    def activities(self, params: Params, x: Tensor, layers: int) -> list[Tensor]:
        """Return what each of the first convolutions sends on, [n, H, W, D].

        Args:
            params: Parameters and constants by name, see the module.
            x: Samples [n, ...].
            layers: Number of convolutions.
        """
        raise NotImplementedError

    def trace(self, params: Params, x: Tensor) -> Trace:
        """Return the logits of samples [n, ...], and what went through each layer, for counting.

        All convolutions are plain ones. So a product is zero where all of its operands are.

        Args:
            params: Parameters and constants by name, see the module.
            x: Samples.
        """
        raise NotImplementedError

    def prepared(self, params: Params) -> Params:
        """Return `params` with quantities that follow from them, computed once for many calls.

        The result is differentiable by `params`.

        Args:
            params: Parameters by name.
        """
        return params

    def align(self, generator: torch.Generator | None = None) -> None:
        """Add fixed random feedback to every layer above the first.

        Feedback alignment (Lillicrap et al. 2016) propagates errors through it. The feedback is
        orthogonal and has the norm of the layer's current weights.

        Args:
            generator: Draws the feedback; None uses torch's global generator.
        """
        for layer in (*self.body[1:], self.head):
            weight = layer["weight"].detach()
            feedback = fill_orthogonal(torch.empty_like(weight), generator)
            layer.register_buffer("feedback", feedback * (weight.norm() / feedback.norm()))

    def align_directly(
        self, generator: torch.Generator | None = None, learned: bool = False
    ) -> None:
        """Add random feedback from the output to every convolution's output.

        Direct feedback alignment (Nokland 2016, "Direct feedback alignment provides learning in
        deep neural networks") brings the output error to every layer through it. The feedback is
        orthogonal and has the norm of the last layer's current weights.

        Args:
            generator: Draws the feedback; None uses torch's global generator.
            learned: Make the feedback parameters, which meta-training changes and the inner loop
                does not. Otherwise it is constant.
        """
        head = self.head["weight"].detach()
        _, _, height, width = self.config.frame_shape
        layers: Iterable[Any] = self.body
        for number, layer in enumerate(layers, 1):
            features = (height >> number) * (width >> number) * len(layer["bias"])
            feedback = fill_orthogonal(head.new_empty((len(head), features)), generator)
            feedback *= head.norm() / feedback.norm()
            if learned:
                layer[_DIRECT] = nn.Parameter(feedback)
            else:
                layer.register_buffer(_DIRECT, feedback)
        self.direct_feedback = True

    def direct_logits(self, params: Params, own: Params, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [n, ways], and what direct feedback alignment differentiates instead.

        The second output [n, ways] is the sum over layers of the layer's output times its feedback,
        and of the head's output. Each term depends on the layer's own parameters in `own`; what
        comes into the layer depends on `params` alone. So the gradient by `own` of the second
        output, weighted by the error (the gradient of a loss by the logits), is the update of
        direct feedback alignment. It is differentiable by `params`.

        Spikes reach the output error through the synapses of the output neurons, as if the layer
        were connected to these neurons. The delays of the layers between are left out.

        Args:
            params: Parameters and constants by name, with `body.<i>.direct`.
            own: The parameters that learn, with the same values, by name.
            x: Samples [n, ...].
        """
        raise NotImplementedError

    def membranes_by_layer(self, x: Tensor) -> Iterator[Callable[[], Tensor]]:
        """Yield for each layer in order a function that returns its membranes, for `init`.

        Membranes are those after pooling, at the last time step. The input of a layer is computed
        when its function is requested, so weights below it must not change afterwards.

        Args:
            x: Samples [n, ...].
        """
        raise NotImplementedError

    def _convolve(
        self,
        params: Params,
        layer: int,
        x: Tensor,
        record: Record | None = None,
        biased: bool = True,
    ) -> Tensor:
        """Return the convolution [N, H, W, D] of frames [N, H, W, C], normalized if configured.

        Unless `biased`, the bias is left out, and autocast may leave the result in half precision.
        """
        name, kernel = f"body.{layer}", self.config.kernel
        weight, bias, feedback = _layer(params, name)
        bias = bias if biased else torch.zeros_like(bias)
        convolve = partial(conv2d, x, weight, feedback=feedback)
        if (spectrum := params.get(f"{name}.{_SPECTRUM}")) is not None:
            convolve = partial(
                fft_conv.conv2d,
                x,
                spectrum,
                kernel,
                feedback=params.get(f"{name}.feedback.{_SPECTRUM}"),
            )
        y = convolve(bias=bias) if biased and not self.config.norm_groups else convolve()
        if record is not None:
            record(x, y)
            y = y.clone()  # the recursions overwrite it
        if not self.config.norm_groups:
            return y.to(x.dtype) if biased else y
        y = y.to(x.dtype)
        groups = y.view(*y.shape[:-1], self.config.norm_groups, -1).movedim(-2, 1)
        normal = layer_norm(groups, groups.shape[2:]).movedim(1, -2).flatten(-2)
        return torch.addcmul(bias, normal, params[f"body.{layer}.scale"])

    def _read_out(self, params: Params, x: Tensor, record: Record | None = None) -> Tensor:
        """Return the head's linear map of features [N, H, W, C]: [N, ways]."""
        x, (weight, bias, feedback) = x.flatten(1), _layer(params, "head")
        if feedback is None:
            y = linear_in_order(x, weight, bias)
        else:
            cells = x[:, None, None]
            y = conv2d(cells, weight[..., None, None], bias, feedback[..., None, None])[:, 0, 0]
        if record is not None:
            record(x, y)
            y = y.clone()
        return y.to(x.dtype)

    def _check(self, x: Tensor, expected: str, fits: bool) -> None:
        """Raise UsageError unless `fits` holds and samples `x` have the network's P, H, W."""
        if not fits or x.shape[-3:] != self.config.frame_shape[1:]:
            raise UsageError(
                f"the network was given samples {list(x.shape)} and expects {expected} with P, H, W"
                f" = {list(self.config.frame_shape[1:])}; build it with the dataset's frame_shape"
            )


def _layer(params: Params, name: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the weight, bias and feedback (None for none) of a layer."""
    return params[f"{name}.weight"], params[f"{name}.bias"], params.get(f"{name}.feedback")


def _parameters(
    shapes: Mapping[str, tuple[int, ...]], prefix: str, device: torch.device | str
) -> nn.ParameterDict:
    """Return the parameters of the layer whose names have a prefix: orthogonal weights."""
    layer = nn.ParameterDict()
    for full_name, shape in shapes.items():
        if not full_name.startswith(prefix):
            continue
        name = full_name.removeprefix(prefix)
        values = torch.full(shape, float(name == "scale"), dtype=torch.float32, device=device)
        if name == "weight" and not values.is_meta:
            fill_orthogonal(values)
        layer[name] = values
    return layer


class SpikingNet(_Stack):
    """The spiking network: event frames [n, T, P, H, W] to logits [n, ways].

    The logits are the output neurons' membranes at the last time step.

    The burn-in carries no gradient, but it runs under the parameters that are passed in, also under
    adapted ones.

    Args:
        config: The architecture; None is the paper's.
        device: Device of the parameters. On "meta" they have no values.

    Attributes:
        neurons: Constants of each layer's neurons.
        representation: Input of the network, for `metaevents.evaluate`.

    Raises:
        UsageError: The architecture, the burn-in or the time stride does not fit the frames.
    """

    representation = "frames"
    config: SpikingConfig

    def __init__(
        self, config: SpikingConfig | None = None, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config or SpikingConfig(), device)
        frames, burn_in, stride = (
            self.config.frame_shape[0],
            self.config.burn_in,
            self.config.time_stride,
        )
        inner = self.config.neuron.stretched(stride)
        self.neurons = (replace(inner, gain=self.config.input_gain), *(inner for _ in self.body))
        if stride < 1 or burn_in < 0 or not self._fits(frames):
            raise UsageError(
                f"a burn-in of {burn_in} frames and a time stride of {stride} do not fit {frames}"
                f" frames; give a multiple of {stride} frames, and at least {len(self.neurons)}"
                " time steps after the burn-in, one per layer"
            )

    def apply_params(self, params: Params, x: Tensor) -> Tensor:
        """Return logits [n, ways] of frames [n, T, P, H, W] under `params`.

        Args:
            params: Parameters and constants by name, see the module.
            x: Frames.

        Raises:
            UsageError: The frames do not fit the network.
        """
        return membranes_ahead(*self._head_input(params, x))[-1]

    def features(self, params: Params, x: Tensor) -> Tensor:
        """Return the head's input [n, features]: its potentials P at the last time step.

        Args:
            params: Parameters and constants by name, see the module.
            x: Frames [n, T, P, H, W].

        Raises:
            UsageError: The frames do not fit the network.
        """
        return neuron_sequence(*self._head_input(params, x))[1].potential.flatten(1)

    def activities(self, params: Params, x: Tensor, layers: int) -> list[Tensor]:
        """Return the spikes per time step that each of the first convolutions sends on.

        Args:
            params: Parameters and constants by name, see the module.
            x: Frames [n, T, P, H, W].
            layers: Number of convolutions.

        Returns:
            [n, H, W, D] of each convolution.

        Raises:
            UsageError: The frames do not fit the network.
        """
        spikes, rates = self._frames(x), []
        connections = self._connections(self.prepared(params))[:layers]
        for connection, neuron in zip(connections, self.neurons, strict=False):
            u = neuron_sequence(spikes, None, connection, neuron)[0]
            spikes = pool_spike(u, neuron.surrogate, self.config.pooling)
            rates.append(spikes.mean(0))
        return rates

    def trace(self, params: Params, x: Tensor) -> Trace:
        """Return the logits of frames [n, T, P, H, W], and what went through each layer.

        All convolutions are plain ones. So a product is zero where all of its operands are.

        Args:
            params: Parameters and constants by name, see the module.
            x: Frames.

        Raises:
            UsageError: The frames do not fit the network.
        """
        calls: list[tuple[Tensor, Tensor]] = []

        def record(operands: Tensor, products: Tensor) -> None:
            calls.append((operands, products))

        params = {name: each for name, each in params.items() if not name.endswith(_SPECTRUM)}
        connections = self._connections(params, record)
        frames, burn_in = self._frames(x), self.config.burn_in // self.config.time_stride
        sent, layers = frames[: len(frames) - len(connections)], []
        for number, (connection, neuron) in enumerate(zip(connections, self.neurons, strict=True)):
            inputs, state, membranes = sent, None, []
            if burn_in:
                with _without_graph():
                    u, state = neuron_sequence(inputs[:burn_in], None, connection, neuron)
                membranes.append(u)
            membranes.append(membranes_ahead(inputs[burn_in:], state, connection, neuron))
            operands, products = calls[-1]
            is_head = number == len(self.body)
            if is_head:
                inputs = inputs.flatten(2)[:, :, None, None]
            else:
                sent = torch.cat([spike(self._pool(u), neuron.surrogate) for u in membranes])
            layers.append(
                LayerTrace(
                    "head" if is_head else f"body.{number}",
                    inputs,
                    operands.view(-1, *inputs.shape[1:]),
                    products,
                    None if is_head else sent,
                    sum(int((u > 0).sum()) for u in membranes),
                )
            )
        return Trace(membranes[-1][-1], layers)

    def direct_logits(self, params: Params, own: Params, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [n, ways], and what direct feedback alignment differentiates instead.

        Args:
            params: Parameters and constants by name, with `body.<i>.direct`.
            own: The parameters that learn, with the same values, by name.
            x: Frames [n, T, P, H, W].

        Raises:
            UsageError: The frames do not fit the network.
        """
        spikes, states, connections = self._after_burn_in(params, x)
        own_connections = self._connections(self.prepared({**params, **own}))
        *body, (connection, own_connection, state, neuron) = zip(
            connections, own_connections, states, self.neurons, strict=True
        )
        terms = []
        for layer, (below, own_below, state_below, neuron_below) in enumerate(body):
            sent, own_sent = (
                pool_spike(
                    membranes_ahead(spikes, state_below, each, neuron_below),
                    neuron_below.surrogate,
                    self.config.pooling,
                )
                for each in (below, own_below)
            )
            potential = potential_ahead(own_sent, neuron)
            terms.append(linear(potential.flatten(1), params[f"body.{layer}.{_DIRECT}"]))
            spikes = sent
        logits, own_logits = (
            membranes_ahead(spikes, state, each, neuron)[-1]
            for each in (connection, own_connection)
        )
        return logits, sum(terms, own_logits)

    def prepared(self, params: Params) -> Params:
        """Return `params` with the spectra of the kernels for which `fft_conv` is faster.

        The result is differentiable by `params`.

        Args:
            params: Parameters by name.
        """
        _, _, height, width = self.config.frame_shape
        with_spectra = dict(params)
        for layer in range(len(self.body)):
            frame, name = (height >> layer, width >> layer), f"body.{layer}"
            if f"{name}.{_SPECTRUM}" in params or not fft_conv.worthwhile(
                frame, params[f"{name}.weight"]
            ):
                continue
            for kernel, prefix in (
                (f"{name}.weight", name),
                (f"{name}.feedback", f"{name}.feedback"),
            ):
                if kernel in params:
                    with_spectra[f"{prefix}.{_SPECTRUM}"] = fft_conv.spectrum(params[kernel], frame)
        return with_spectra

    def _head_input(
        self, params: Params, x: Tensor
    ) -> tuple[Tensor, NeuronState | None, Connection, Neuron]:
        """Return the arguments of `neuron_sequence` for the head after the burn-in.

        They are its incoming spikes [T, n, H, W, C], state, connection and neuron.
        """
        spikes, states, connections = self._after_burn_in(params, x)
        *body, head = zip(connections, states, self.neurons, strict=True)
        for connection, state, neuron in body:
            u = membranes_ahead(spikes, state, connection, neuron)
            spikes = pool_spike(u, neuron.surrogate, self.config.pooling)
        connection, state, neuron = head
        return spikes, state, connection, neuron

    def _after_burn_in(
        self, params: Params, x: Tensor
    ) -> tuple[Tensor, list[NeuronState | None], list[Connection]]:
        """Return the first layer's spikes after the burn-in, and all states and connections."""
        frames, params = self._frames(x), self.prepared(params)
        connections = self._connections(params)
        burn_in = self.config.burn_in // self.config.time_stride
        with _without_graph():
            states = self._burn_in(frames[:burn_in], params)
        # Each layer delays by one step, so the last few frames do not reach the last membranes.
        return frames[burn_in : len(frames) - len(connections)], states, connections

    def _frames(self, x: Tensor) -> Tensor:
        """Return samples [n, T, P, H, W] as the network's time steps [T / stride, n, H, W, P]."""
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
        """Whether some number of frames leaves at least one time step per layer after the burn-in.

        It may be less than the dataset's.
        """
        steps, stride = frames // self.config.time_stride, self.config.time_stride
        return frames % stride == 0 and steps >= self.config.burn_in // stride + len(self.neurons)

    def _connections(
        self, params: Params, record: Record | None = None, biased: bool = True
    ) -> list[Connection]:
        """Return each layer's connection: potentials [T, n, H, W, C] to the drive [T, n, ...].

        Convolutions leave out their biases unless `biased`; see `_convolve`.
        """

        def convolution(layer: int, potentials: Tensor) -> Tensor:
            convolve = partial(self._convolve, params, layer, record=record, biased=biased)
            return _over_time(convolve, potentials)

        head = partial(_over_time, partial(self._read_out, params, record=record))
        return [*(partial(convolution, layer) for layer in range(len(self.body))), head]

    def _burn_in(self, frames: Tensor, params: Params) -> list[NeuronState | None]:
        """Return each layer's state after frames [T, n, H, W, P]; None is the state at rest."""
        # A GPU adds the biases while it runs the recursion, not in one more pass.
        connections = self._connections(params, biased=frames.device.type == "cpu")
        biases = [params[f"body.{layer}.bias"] for layer in range(len(self.body))]
        states: list[NeuronState | None] = [None] * len(connections)
        if not len(frames):
            return states
        *body, (read_out, last) = zip(connections, self.neurons, strict=True)
        # On a CPU each part of the time goes through all layers before the next part, to stay near
        # the cache.
        size = len(frames)
        if frames.device.type == "cpu":
            size = max(1, _BURN_IN_MEMBRANES // (frames[0, ..., 0].numel() * len(biases[0])))
        features = []
        for spikes in torch.split(frames, size):
            for layer, (connection, neuron) in enumerate(body):
                given = spikes, states[layer], connection, biases[layer], neuron
                if frames.device.type == "cpu":
                    spikes, states[layer] = self._fire(*given)
                else:
                    spikes, states[layer] = fired_sequence(*given, self.config.pooling)
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
        """Return a layer's pooled spikes [T, n, H / 2, W / 2, D] and its state after them."""
        # The steps before the first incoming spike are skipped, if the layer is at rest and its
        # biases leave it so.
        rest = 0
        if state is None and neuron.surrogate is FAST_SIGMOID:
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
        """Return membranes [T, n, H, W, D] pooled to [T, n, H / 2, W / 2, D]."""
        return _over_time(partial(pool2d, pooling=self.config.pooling), u)

    def membranes_by_layer(self, x: Tensor) -> Iterator[Callable[[], Tensor]]:
        """Yield for each layer in order a function that returns its membranes, for `init`.

        They are those at the last time step [n, ...], pooled below the head. The weights are the
        current ones; those below a layer must not change once its function was requested.

        Args:
            x: Frames [n, T, P, H, W].
        """
        spikes, connections = self._frames(x), self._connections(dict(self.named_parameters()))
        for connection, neuron in zip(connections[:-1], self.neurons, strict=False):
            pooled = partial(self._pooled_sequence, spikes, connection, neuron)
            yield partial(_last, pooled)
            spikes = spike(pooled(), neuron.surrogate)
        yield lambda: neuron_sequence(spikes, None, connections[-1], self.neurons[-1])[0][-1]

    def _pooled_sequence(self, spikes: Tensor, connection: Connection, neuron: Neuron) -> Tensor:
        """Return a layer's pooled membranes at all steps, from rest."""
        return self._pool(neuron_sequence(spikes, None, connection, neuron)[0])


class ConvNet(_Stack):
    """The non-spiking network: event counts summed over time [n, P, H, W] to logits [n, ways].

    It sums frames [n, T, P, H, W] itself.

    Args:
        config: The architecture; None is the paper's.
        device: Device of the parameters. On "meta" they have no values.

    Attributes:
        representation: Input of the network, for `metaevents.evaluate`.

    Raises:
        UsageError: The architecture does not fit the frames.
    """

    representation = "sum"

    def __init__(
        self, config: StackConfig | None = None, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config or StackConfig(), device)

    def apply_params(self, params: Params, x: Tensor) -> Tensor:
        """Return logits [n, ways] of counts [n, P, H, W] under `params`.

        Args:
            params: Parameters and constants by name, see the module.
            x: Counts.

        Raises:
            UsageError: The counts do not fit the network.
        """
        return self._read_out(params, self.features(params, x))

    def features(self, params: Params, x: Tensor) -> Tensor:
        """Return the head's input [n, features].

        Args:
            params: Parameters and constants by name, see the module.
            x: Counts [n, P, H, W].

        Raises:
            UsageError: The counts do not fit the network.
        """
        return self.activities(params, x, len(self.body))[-1].flatten(1)

    def activities(self, params: Params, x: Tensor, layers: int) -> list[Tensor]:
        """Return what each of the first convolutions sends on, [n, H, W, D].

        Args:
            params: Parameters and constants by name, see the module.
            x: Counts [n, P, H, W].
            layers: Number of convolutions.

        Raises:
            UsageError: The counts do not fit the network.
        """
        activities = [self._counts(x)]
        for layer in range(layers):
            activities.append(torch.relu(self._pooled(params, layer, activities[-1])))
        return activities[1:]

    def direct_logits(self, params: Params, own: Params, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [n, ways], and what direct feedback alignment differentiates instead.

        Args:
            params: Parameters and constants by name, with `body.<i>.direct`.
            own: The parameters that learn, with the same values, by name.
            x: Counts [n, P, H, W].

        Raises:
            UsageError: The counts do not fit the network.
        """
        activity, own, terms = self._counts(x), {**params, **own}, []
        for layer in range(len(self.body)):
            sent, own_sent = (
                torch.relu(self._pooled(each, layer, activity)) for each in (params, own)
            )
            terms.append(linear(own_sent.flatten(1), params[f"body.{layer}.{_DIRECT}"]))
            activity = sent
        logits, own_logits = (self._read_out(each, activity) for each in (params, own))
        return logits, sum(terms, own_logits)

    def trace(self, params: Params, x: Tensor) -> Trace:
        """Return the logits of counts [n, P, H, W], and what went through each layer.

        Args:
            params: Parameters and constants by name, see the module.
            x: Counts.

        Raises:
            UsageError: The counts do not fit the network.
        """
        calls: list[tuple[Tensor, Tensor]] = []

        def record(operands: Tensor, products: Tensor) -> None:
            calls.append((operands, products))

        activity, layers = self._counts(x), []
        for layer in range(len(self.body)):
            pooled = self._pooled(params, layer, activity, record)
            activity = torch.relu(pooled)
            inputs, products = calls[-1]
            name = f"body.{layer}"
            layers.append(
                LayerTrace(name, inputs[None], inputs[None], products, activity[None], None)
            )
        logits = self._read_out(params, activity, record)
        inputs, products = calls[-1]
        cells = inputs[None, :, None, None]
        return Trace(logits, [*layers, LayerTrace("head", cells, cells, products, None, None)])

    def _counts(self, x: Tensor) -> Tensor:
        """Return samples as counts [n, H, W, P] in the dtype of the weights."""
        self._check(x, "[n, P, H, W] or [n, T, P, H, W]", x.dim() in (4, 5))
        dtype = self.head["weight"].dtype
        counts = x.sum(1, dtype=dtype) if x.dim() == 5 else x.to(dtype)
        return counts.permute(0, 2, 3, 1).contiguous()

    def _pooled(
        self, params: Params, layer: int, activity: Tensor, record: Record | None = None
    ) -> Tensor:
        """Return a layer's pooled output [n, H / 2, W / 2, D] before the nonlinearity."""
        return pool2d(self._convolve(params, layer, activity, record), self.config.pooling)

    def membranes_by_layer(self, x: Tensor) -> Iterator[Callable[[], Tensor]]:
        """Yield for each layer in order a function that returns its membranes, for `init`.

        They are what a layer gives before its nonlinearity [n, ...], pooled below the head. The
        weights are the current ones; those below a layer must not change once its function was
        requested.

        Args:
            x: Counts [n, P, H, W].
        """
        activity, params = self._counts(x), dict(self.named_parameters())
        for layer in range(len(self.body)):
            pooled = partial(self._pooled, params, layer, activity)
            yield pooled
            activity = torch.relu(pooled())
        yield lambda: self._read_out(params, activity)


def _last(sequence: Callable[[], Tensor]) -> Tensor:
    """Return the last step of the sequence that a function returns."""
    return sequence()[-1]


def _over_time(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return a function of frames [N, ...] applied to a sequence of frames [T, n, ...]."""
    y = function(x.flatten(0, 1))
    return y.view(*x.shape[:2], *y.shape[1:])
