"""Speed of a second-order MAML step of the spiking network, beside a step-by-step implementation.

    python tests/speed/bench_maml_step.py [--pooling max] [--repetitions 7] [--threads 2]
                                          [--device cpu] [--dense] [--operations] [--json]

It times one outer step: 5-way 1-shot with 10 queries per class, T = 100 of which 70 are burn-in,
frames of 2 x 16 x 32, float32. The peer is the network as the paper writes it: one module per layer
that keeps its state, all layers one time step after another, and autograd with create_graph for the
inner step. Both use the same weights and the same episode, and their gradients are compared.
Repetitions alternate, so that other load slows both; the ratio is the median of the pairs' ratios.

Peak memory is that of a fresh process that takes a few steps with one implementation. The libraries
alone are measured too. On a GPU it is the peak of torch's allocator.

The episode consists of N-MNIST recordings if METAEVENTS_NMNIST_SAMPLE names a folder of them, else
of random events with the extent and the rate of a digit. `--dense` makes random events everywhere
and raises the biases, so that no layer is ever at rest.

`--operations` measures no time. It counts the operations that each implementation would launch on a
GPU, where launches take most of a step. Both run on torch's "meta" device, which has shapes and no
values. Views and allocations are not counted; a recurrence counts as one kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, max_pool2d
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from baselines.init import lsuv_init
from baselines.maml import MAML, MAMLConfig, TaskBatch
from baselines.networks import SpikingConfig, SpikingNet
from baselines.snn import autograd, recurrence

BURN_IN = 70
Gradients = list[Tensor]


class Spike(torch.autograd.Function):
    """Threshold with the fast sigmoid's slope as its derivative."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (u,) = ctx.saved_tensors
        return gradient / (10 * u.abs() + 1) ** 2


class StatefulLayer(nn.Module):
    """A spiking layer that keeps Q, P, R and S between time steps."""

    def __init__(self, connection: nn.Module, gain: float = 1.0) -> None:
        super().__init__()
        self.connection = connection
        self.gain = gain
        for name, decay in (("a", 0.95), ("b", 0.90), ("c", 0.65)):
            # A scalar tensor does not change the dtype of the arithmetic.
            self.register_buffer(name, torch.tensor(decay, dtype=torch.float64))
        self.state: tuple[Tensor, ...] | None = None

    def forward(self, spikes: Tensor, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if self.state is None:
            zero = torch.zeros_like(spikes)
            u = torch.func.functional_call(self.connection, parameters, (zero,))
            self.state = zero, zero, torch.zeros_like(u), torch.zeros_like(u)
        q, p, r, s = self.state
        p = self.a * p + (1 - self.a) * q
        q = self.b * q + (1 - self.b) * self.gain * spikes
        r = self.c * r - (1 - self.c) * s
        u = torch.func.functional_call(self.connection, parameters, (p,)) + r
        s = Spike.apply(u)
        self.state = q, p, r, s
        return s, u


class StepByStep(nn.Module):
    """The spiking network, all layers one time step after another."""

    def __init__(self, pooling: str, ways: int = 5) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                StatefulLayer(nn.Conv2d(2, 32, 5, padding=2), gain=10.0),
                StatefulLayer(nn.Conv2d(32, 64, 5, padding=2)),
                StatefulLayer(nn.Conv2d(64, 128, 5, padding=2)),
                StatefulLayer(nn.Linear(1024, ways)),
            ]
        )
        self.pool = {"max": max_pool2d, "average": avg_pool2d}[pooling]

    def step(self, spikes: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        for i, layer in enumerate(self.layers):
            weights = {
                name: parameters[f"layers.{i}.connection.{name}"] for name in ("weight", "bias")
            }
            if i == len(self.layers) - 1:
                return layer(spikes.flatten(1), weights)[1]
            _, u = layer(spikes, weights)
            spikes = Spike.apply(self.pool(u, 2))
        raise AssertionError

    def forward(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        for layer in self.layers:
            layer.state = None
        with torch.no_grad():
            for t in range(BURN_IN):
                self.step(x[:, t], parameters)
        for t in range(BURN_IN, x.shape[1]):
            u = self.step(x[:, t], parameters)
        return u


def peer_step(net: StepByStep, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Gradients:
    parameters = dict(net.named_parameters())
    inner = cross_entropy(net(sx, parameters), sy)
    gradients = torch.autograd.grad(inner, list(parameters.values()), create_graph=True)
    adapted = {name: p - g for (name, p), g in zip(parameters.items(), gradients, strict=True)}
    net.zero_grad()
    cross_entropy(net(qx, adapted), qy).backward()
    return [p.grad for p in net.parameters()]


def baselines_step(maml: MAML, *episode: Tensor) -> Gradients:
    maml.zero_grad()
    maml.accumulate(TaskBatch(*(each.unsqueeze(0) for each in episode)))
    return [p.grad for p in maml.net.parameters()]


def load_peer(peer: StepByStep, net: SpikingNet) -> None:
    """Copy the weights of a network to the peer."""
    with torch.no_grad():
        for target, source in zip(peer.parameters(), net.parameters(), strict=True):
            target.copy_(as_peer(source))


def as_peer(value: Tensor) -> Tensor:
    """Return a head weight with the peer's order of features, (C, H, W); others unchanged."""
    return value.view(-1, 2, 4, 128).permute(0, 3, 1, 2).flatten(1) if value.dim() == 2 else value


def random_episode(dense: bool, queries: int = 10, ways: int = 5) -> tuple[Tensor, ...]:
    """Return random events like those of digits in a saccade, about 3,000 per sample.

    The rate grows during the first 40 ms; each class has its events at another place.
    """
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    time_course = np.ones(100) if dense else np.minimum(np.arange(100) / 40, 1)

    def side(label: int) -> np.ndarray:
        angle = 2 * np.pi * (label / 10 + rng.normal(0, 0.02))
        ring = np.hypot(x - 7.5 - 2 * np.cos(angle), y - 7.5 - 2 * np.sin(angle))
        rate = (0.5 if dense else 0) + 0.3 * np.exp(-((ring - 4) ** 2))
        return rng.poisson(
            np.broadcast_to(time_course[:, None, None, None] * rate, (100, 2, 16, 16))
        )

    def sample(label: int) -> np.ndarray:
        return np.concatenate([side(label), side(label + 3)], -1)

    support, query = np.arange(ways), np.tile(np.arange(ways), queries)
    frames = [
        torch.tensor(np.stack([sample(i) for i in labels]), dtype=torch.float32)
        for labels in (support, query)
    ]
    return frames[0], torch.from_numpy(support), frames[1], torch.from_numpy(query)


def recorded_episode(folder: Path, queries: int = 10, ways: int = 5) -> tuple[Tensor, ...]:
    """Return an episode of N-MNIST recordings in a folder."""
    rng = np.random.default_rng(0)

    def side(path: Path) -> np.ndarray:
        raw = np.fromfile(path, np.uint8).reshape(-1, 5).astype(np.int64)
        t = (raw[:, 2] & 127) << 16 | raw[:, 3] << 8 | raw[:, 4]
        keep = (t - t[0] < 100_000) & (raw[:, 0] < 32) & (raw[:, 1] < 32)
        out = np.zeros((100, 2, 16, 16))
        np.add.at(
            out,
            tuple(
                v[keep]
                for v in ((t - t[0]) // 1000, raw[:, 2] >> 7, raw[:, 1] // 2, raw[:, 0] // 2)
            ),
            1,
        )
        return out

    def samples(label: int) -> np.ndarray:
        sides = [
            sorted((folder / "Train" / str(digit)).glob("*.bin")) for digit in (label, 9 - label)
        ]
        chosen = [rng.permutation(len(files))[: queries + 1] for files in sides]
        pairs = zip(
            *([files[i] for i in order] for files, order in zip(sides, chosen, strict=True)),
            strict=True,
        )
        return np.stack([np.concatenate([side(left), side(right)], -1) for left, right in pairs])

    frames = torch.tensor(np.stack([samples(i) for i in range(ways)]), dtype=torch.float32)
    labels = torch.arange(ways)
    return frames[:, 0], labels, frames[:, 1:].flatten(0, 1), labels.repeat_interleave(queries)


def prepare(
    pooling: str, dense: bool, device: str, dtype: torch.dtype = torch.float32
) -> tuple[Callable[[], Gradients], Callable[[], Gradients]]:
    """Return an outer step of the baselines and of the peer, on the same weights and episode."""
    folder = os.environ.get("METAEVENTS_NMNIST_SAMPLE")
    episode = recorded_episode(Path(folder)) if folder and not dense else random_episode(dense)
    net = SpikingNet(SpikingConfig(pooling=pooling))
    lsuv_init(net, episode[2][::5], generator=torch.Generator().manual_seed(0))
    if dense:
        with torch.no_grad():
            for layer in net.body:
                layer["bias"].add_(1.0)
    maml, peer = MAML(net, MAMLConfig()), StepByStep(pooling)
    load_peer(peer, net)
    maml, peer = maml.to(device, dtype), peer.to(device, dtype)
    episode = tuple(
        each.to(device, dtype if each.is_floating_point() else None) for each in episode
    )
    return lambda: baselines_step(maml, *episode), lambda: peer_step(peer, *episode)


class Launches(TorchDispatchMode):
    """Counts operations that compute something."""

    FREE = ("view", "permute", "select", "slice", "transpose", "unbind", "expand", "unsqueeze",
            "squeeze", "split", "detach", "alias", "empty", "as_strided", "::t")  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split(".")[0]
        self.count += not any(
            word in name if word[0] != ":" else name.endswith(word) for word in self.FREE
        )
        return func(*args, **(kwargs or {}))


class Kernels:
    """The recurrences, each counted as one GPU kernel."""

    def __init__(self) -> None:
        self.count = 0

    def __getattr__(self, name: str) -> Callable[..., Tensor | tuple[Tensor, ...]]:
        def launch(*arguments):
            self.count += 1
            with _disable_current_modes():
                return getattr(recurrence, name)(*arguments)

        return launch


class PoolingKernels:
    """The kernels that pool and threshold: shapes alone, each counted as one GPU kernel."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels

    def fire(self, v, trace, *_):
        self._kernels.count += 1
        with _disable_current_modes():
            return self._pooled(v), torch.empty_like(trace)

    def pool_spike(self, u, *_):
        self._kernels.count += 1
        with _disable_current_modes():
            return self._pooled(u)

    def pool_spike_adjoint(self, grad_s, u, *_):
        self._kernels.count += 1
        with _disable_current_modes():
            return torch.empty_like(u)

    def pool_spike_second(self, grad_grad_u, grad_s, u, *_):
        self._kernels.count += 1
        with _disable_current_modes():
            return torch.empty_like(grad_s), torch.empty_like(u)

    @staticmethod
    def _pooled(u):
        *lead, height, width, channels = u.shape
        return u.new_empty((*lead, height // 2, width // 2, channels))


def launches(pooling: str, dense: bool) -> dict[str, int]:
    """Count the operations of a step of each implementation."""
    kernels, counts = Kernels(), {}
    autograd.recurrence_for = lambda *_: kernels
    autograd.pooling_kernels = lambda *_: PoolingKernels(kernels)
    torch.is_autocast_enabled = lambda *_: False  # it raises for the meta device
    for name, step in zip(("baselines", "peer"), prepare(pooling, dense, "meta"), strict=True):
        kernels.count = 0
        with Launches() as operations:
            step()
        counts[f"{name}_launches"] = operations.count + kernels.count
    return counts


def peak_megabytes(kind: str, arguments: argparse.Namespace) -> float:
    """Return the peak memory of a fresh process that runs one implementation, in MB."""
    shared = [
        "--pooling",
        arguments.pooling,
        "--threads",
        str(arguments.threads),
        "--device",
        arguments.device,
    ]
    command = [sys.executable, __file__, "--peak", kind, *shared, *["--dense"] * arguments.dense]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_of_this_process(device: str) -> float:
    """Return the peak memory of this process (or of torch on its GPU), in MB."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")
    if status.exists():  # preferred to ru_maxrss, which starts at the parent's peak
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
        / 1e6
    )


def seconds(step: Callable[[], Gradients], device: str) -> float:
    """Return the wall time of a step."""
    start = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pooling", choices=["max", "average"], default="max")
    parser.add_argument("--repetitions", type=int, default=7, help="steps to time (default: 7)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dense", action="store_true", help="events everywhere, no layer at rest")
    parser.add_argument("--operations", action="store_true", help="count operations instead")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--peak", choices=["libraries", "peer", "baselines"], help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.operations:
        show(launches(arguments.pooling, arguments.dense), arguments.json)
        return
    baselines, peer = prepare(arguments.pooling, arguments.dense, arguments.device)
    if arguments.peak:
        for _ in range({"libraries": 0}.get(arguments.peak, 3)):
            (baselines if arguments.peak == "baselines" else peer)()
        print(peak_of_this_process(arguments.device))
        return
    # In float64: in float32 a neuron near its threshold may fire in one implementation and not in
    # the other, which changes all that follows.
    exact = prepare(arguments.pooling, arguments.dense, arguments.device, torch.float64)
    pairs = zip(*(step() for step in exact), strict=True)
    difference = max(((as_peer(a) - b).abs().max() / b.abs().max()).item() for a, b in pairs)
    times: dict[str, list[float]] = {"baselines": [], "peer": []}
    for _ in range(arguments.repetitions):
        for name, step in (("baselines", baselines), ("peer", peer)):
            times[name].append(seconds(step, arguments.device))
    ratios = [b / a for a, b in zip(times["baselines"], times["peer"], strict=True)]
    report = {
        "pooling": arguments.pooling,
        "dense": arguments.dense,
        "device": arguments.device,
        "threads": arguments.threads,
        "baselines_s": statistics.median(times["baselines"]),
        "peer_s": statistics.median(times["peer"]),
        "ratio": statistics.median(ratios),
        "ratios": sorted(ratios),
        "largest_relative_difference_in_float64": difference,
        **{
            f"{kind}_peak_mb": peak_megabytes(kind, arguments)
            for kind in ("libraries", "baselines", "peer")
        },
    }
    show(report, arguments.json)


def show(report: dict[str, object], as_json: bool) -> None:
    """Print the report."""
    if as_json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        rounded = [round(v, 3) for v in value] if isinstance(value, list) else value
        print(f"{name:42} {f'{value:.4g}' if isinstance(value, float) else rounded}")


if __name__ == "__main__":
    main()
