"""Networks and learners, built from the configuration of a run.

The weights are fresh: `init` sets them from data, `weights_file` fills them with trained ones.
"""

from __future__ import annotations

from typing import Any

import torch

from baselines.components import ComponentMatching, MatchingConfig
from baselines.config import RunConfig
from baselines.maml import MAML, MAMLConfig, names_of_layers
from baselines.networks import ConvNet, SpikingConfig, SpikingNet, StackConfig, parameter_shapes
from baselines.reptile import Reptile
from baselines.transfer import Transfer
from metaevents.benchmark.alignment import Versions
from metaevents.global_state import generators_restored


def build_network(
    config: RunConfig,
    frame_shape: tuple[int, ...],
    ways: int | None = None,
    device: torch.device | str = "cpu",
) -> SpikingNet | ConvNet:
    """Return the network of a configuration.

    Args:
        config: The configuration.
        frame_shape: (T, P, H, W) of the dataset's samples.
        ways: Outputs of the network; None takes `config.ways`.
        device: Device of the parameters.

    Raises:
        UsageError: The configuration does not fit the frames.
    """
    architecture = network_config(config, frame_shape, ways)
    with generators_restored():  # the weights that are drawn here are replaced
        if isinstance(architecture, SpikingConfig):
            return SpikingNet(architecture, device)
        return ConvNet(architecture, device)


def network_config(
    config: RunConfig, frame_shape: tuple[int, ...], ways: int | None = None
) -> StackConfig:
    """Return the architecture of a configuration's network; see `build_network`.

    Args:
        config: The configuration.
        frame_shape: (T, P, H, W) of the dataset's samples.
        ways: Outputs of the network; None takes `config.ways`.

    Returns:
        A `SpikingConfig` for a spiking network.
    """
    time, polarities, height, width = frame_shape
    shared: dict[str, Any] = {
        "frame_shape": (time, polarities, height, width),
        "ways": ways or config.ways,
        "channels": config.channels,
        "kernel": config.kernel,
        "pooling": config.pooling,
        "norm_groups": config.norm_groups,
    }
    if config.kind.network == "conv":
        return StackConfig(**shared)
    return SpikingConfig(**shared, burn_in=config.burn_in, time_stride=config.time_stride)


def build_maml(config: RunConfig, net: SpikingNet | ConvNet) -> MAML:
    """Return `net` as a meta-learner with the inner loop of a configuration.

    Raises:
        UsageError: `config.inner_layers` names no layers of the network.
    """
    kind = Reptile if config.kind.reptile else MAML
    return kind(
        net,
        MAMLConfig(
            steps=config.inner_steps,
            test_steps=config.test_steps or None,
            inner_lr=config.inner_lr,
            learn_inner_lrs=config.learn_inner_lrs,
            second_order=config.kind.second_order,
            layers=_layers(config),
        ),
    )


def build_transfer(config: RunConfig, net: SpikingNet | ConvNet) -> Transfer:
    """Return `net` as a transfer learner with the last-layer training of a configuration."""
    return Transfer(net, config.head_steps, config.head_lr, config.head_weight_decay)


def build_matching(config: RunConfig, net: SpikingNet | ConvNet) -> ComponentMatching:
    """Return `net` as a learner that compares components as a configuration says."""
    shift, turn, scale = config.match_shift, config.match_turn, config.match_scale
    versions = Versions(
        shifts=tuple(range(-shift, shift + 1)),
        turns=(-turn, 0.0, turn) if turn else (0.0,),
        scales=(1 / scale, 1.0, scale) if scale > 1 else (1.0,),
    )
    return ComponentMatching(net, MatchingConfig(config.match_aligned, versions, config.sharing))


def build_frozen(config: RunConfig, net: SpikingNet | ConvNet) -> Transfer | ComponentMatching:
    """Return `net`, which was trained supervised, as the learner of a configuration."""
    build = build_matching if config.kind.method == "components" else build_transfer
    return build(config, net)


def weight_shapes(
    config: RunConfig, frame_shape: tuple[int, ...], ways: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a run's weights file, by name.

    Args:
        config: The configuration of the run.
        frame_shape: (T, P, H, W) of the dataset's samples.
        ways: Outputs of the network; None takes `config.ways`.

    Raises:
        UsageError: The configuration does not fit the frames.
    """
    shapes = parameter_shapes(network_config(config, frame_shape, ways))
    if config.kind.method != "maml":
        return shapes
    learned: dict[str, tuple[int, ...]] = {}
    if config.learn_inner_lrs:
        names = names_of_layers(list(shapes), _layers(config), len(config.channels))
        learned["inner_lrs"] = (len(names),)
    return learned | {f"net.{name}": shape for name, shape in shapes.items()}


def _layers(config: RunConfig) -> Any:
    """Return the layers that the inner loop updates, as `MAMLConfig` has them."""
    return int(config.inner_layers) if config.inner_layers.isdigit() else config.inner_layers
