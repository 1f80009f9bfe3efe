"""The exported graph computes what the network computes, and peers read it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d

import baselines
from baselines.cli import main
from baselines.networks import SpikingConfig, SpikingNet
from baselines.nir_export import export, to_nir
from metaevents.errors import MissingError, UsageError

nir = pytest.importorskip("nir", reason="the package nir is not installed: metaevents[nir]")

FRAMES = (16, 2, 8, 16)


def network(**changes: Any) -> SpikingNet:
    """A small network with active neurons."""
    torch.manual_seed(0)
    config = SpikingConfig(FRAMES, ways=3, channels=(4, 6), kernel=3, burn_in=8, **changes)
    net = SpikingNet(config)
    with torch.no_grad():
        for layer in (*net.body, net.head):
            layer["weight"].mul_(3)
            layer["bias"].normal_(0.1, 0.2)
    return net


def counts(samples: int = 5) -> Tensor:
    """Random event counts [n, T, P, H, W]."""
    generator = torch.Generator().manual_seed(1)
    return torch.poisson(torch.full((samples, *FRAMES), 0.4), generator)


# --- an interpreter of the graph, straight from NIR's definitions --------------------------------


@dataclass
class Node:
    """A node with its state."""

    node: Any
    dt: float
    v: Any = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return the output of one time step."""
        node, kind = self.node, type(self.node).__name__
        if kind == "LI":
            tau, r = (torch.as_tensor(each).float() for each in (node.tau, node.r))
            assert not node.v_leak.any()
            self.v = self.v + self.dt / tau * (r * x - self.v)
            return self.v  # type: ignore[no-any-return]
        if kind == "Delay":
            assert np.all(node.delay == self.dt)
            before, self.v = self.v + torch.zeros_like(x), x
            return before  # type: ignore[no-any-return]
        if kind == "Threshold":
            return (x > torch.as_tensor(node.threshold)).float()
        if kind == "Scale":
            return x * torch.as_tensor(node.scale)
        if kind == "Conv2d":
            weight, bias = torch.as_tensor(node.weight), torch.as_tensor(node.bias)
            return conv2d(x, weight, bias, padding=tuple(map(int, node.padding)))
        if kind in ("SumPool2d", "AvgPool2d"):
            size = tuple(map(int, node.kernel_size))
            return avg_pool2d(x, size) * (size[0] * size[1] if kind == "SumPool2d" else 1)
        if kind == "Flatten":
            return x.flatten(1)
        if kind == "Affine":
            return x @ torch.as_tensor(node.weight).T + torch.as_tensor(node.bias)
        assert kind in ("Input", "Output"), kind
        return x


def run_graph(graph: Any, steps: Tensor) -> Tensor:
    """Return the output after the last of the steps [T, n, ...]; a loop takes one step."""
    nodes = {name: Node(node, float(graph.metadata["dt"])) for name, node in graph.nodes.items()}
    loops = {(a, b) for a, b in graph.edges if a.endswith("refractory")}
    order: list[str] = []
    while len(order) < len(nodes):
        ready = [
            name
            for name in nodes
            if name not in order
            and all(a in order for a, b in graph.edges if b == name and (a, b) not in loops)
        ]
        assert ready, "the graph has another loop than the refractory one"
        order += ready
    last: dict[str, Any] = dict.fromkeys(nodes, 0.0)
    for x in steps:
        now: dict[str, Any] = {}
        for name in order:
            sources = [(a, b) for a, b in graph.edges if b == name]
            arrived = [(last if edge in loops else now)[edge[0]] for edge in sources]
            now[name] = nodes[name](sum(arrived) if sources else x)
        last = now
    return last["output"]  # type: ignore[no-any-return]


def steps_of(graph: Any, x: Tensor) -> Tensor:
    """Return the input of the graph [T, n, P, H, W] for frames [n, T, P, H, W]."""
    stride = int(graph.metadata["frames_per_step"])
    return x.view(len(x), -1, stride, *x.shape[2:]).mean(2).movedim(1, 0)


def logits_of_graph(graph: Any, x: Tensor) -> Tensor:
    """Return the graph's output after all frames."""
    return run_graph(graph, steps_of(graph, x))


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("time_stride", [1, 2])
def test_the_graph_of_a_file_gives_the_logits_of_the_network(
    pooling: str, time_stride: int, tmp_path: Path
) -> None:
    net = network(pooling=pooling, time_stride=time_stride)
    export(net, tmp_path / "net.nir")
    graph = nir.read(tmp_path / "net.nir")
    x = counts()
    with torch.no_grad():
        expected = net(x)
    assert expected.std() > 0.1  # the classes differ, so a wrong graph would be seen
    assert torch.allclose(logits_of_graph(graph, x), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["body_0_refractory", "body_1_current", "head_potential"])
def test_every_filter_matters(name: str) -> None:
    net, x = network(), counts()
    graph = to_nir(net)
    graph.nodes[name].tau *= 1.2
    with torch.no_grad():
        assert not torch.allclose(logits_of_graph(graph, x), net(x), atol=1e-3)


def test_given_parameters_and_time_steps_are_exported() -> None:
    net = network()
    params = {name: value * 1.1 for name, value in net.named_parameters()}
    graph = to_nir(net, params, dt=1e-4)
    x = counts(2)
    with torch.no_grad():
        expected = net.apply_params(params, x)
    assert graph.metadata["dt"] == 1e-4
    assert graph.nodes["head_current"].tau.flat[0] == pytest.approx(1e-4 / (1 - 0.9))
    assert torch.allclose(logits_of_graph(graph, x), expected, atol=1e-5)


def test_a_trained_network_of_the_release_is_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "snn-maml.nir"
    assert main(["export", "snn-maml", "--out", str(out)]) == 0
    assert f"{out}: written" in capsys.readouterr().out
    graph, net = nir.read(out), baselines.load("snn-maml").model.net
    generator = torch.Generator().manual_seed(0)
    x = torch.poisson(torch.full((2, *net.config.frame_shape), 0.02), generator)
    with torch.no_grad():
        expected = net(x)
    assert torch.allclose(logits_of_graph(graph, x), expected, atol=1e-4)


# --- peers ---------------------------------------------------------------------------------------


def test_nirtorch_runs_the_graph() -> None:
    """NIR's own executor wires and runs the graph, with modules for LI and Threshold of ours."""
    nirtorch = pytest.importorskip("nirtorch", reason="the package nirtorch is not installed")

    class LeakyIntegrator(nn.Module):
        def __init__(self, node: Any) -> None:
            super().__init__()
            self.rate = nn.Parameter(torch.as_tensor(graph.metadata["dt"] / node.tau))
            self.r = nn.Parameter(torch.as_tensor(node.r))

        def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:
            v = torch.zeros_like(x) if state is None else state
            v = v + self.rate * (self.r * x - v)
            return v, v

    class Delay(nn.Module):
        def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:
            return torch.zeros_like(x) if state is None else state, x

    class Threshold(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x > 0).float()

    def affine(node: Any) -> nn.Linear:
        layer = nn.Linear(node.weight.shape[1], node.weight.shape[0])
        layer.weight.data, layer.bias.data = map(torch.as_tensor, (node.weight, node.bias))
        return layer

    net, x = network(), counts()
    graph = to_nir(net)
    module = nirtorch.nir_to_torch(
        graph,
        {
            nir.LI: LeakyIntegrator,
            nir.Delay: lambda node: Delay(),
            nir.Scale: lambda node: nn.Identity(),
            nir.Threshold: lambda node: Threshold(),
            nir.Affine: affine,
            nir.Flatten: lambda node: nn.Flatten(1),  # the batch comes first
        },
    )
    state = None
    with torch.no_grad():
        expected = net(x)
        for step in steps_of(graph, x):
            output, state = module(step, state)
    assert torch.allclose(output, expected, atol=1e-5)


def test_a_graph_without_an_equal_is_refused() -> None:
    with pytest.raises(UsageError, match="NIR has no normalization"):
        to_nir(network(norm_groups=2))
    with pytest.raises(UsageError, match="no time step"):
        to_nir(network(), dt=0)
    for dt in (float("inf"), float("nan"), "1"):
        with pytest.raises(UsageError, match="is no finite number"):
            to_nir(network(), dt=dt)  # type: ignore[arg-type]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(MissingError, match=r"pip install 'metaevents\[nir\]'"):
        to_nir(network())
