"""What a training run is told: one readable dataclass, and the named recipes that fill it.

`RunConfig` is saved beside every run and inside its weights. It builds the networks and the meta-learner; running is
for `training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from metaevents.errors import UsageError

if TYPE_CHECKING:
    from baselines.maml import MAML
    from baselines.networks import ConvNet, SpikingNet

T = TypeVar("T")


@dataclass(frozen=True)
class Model:
    """A baseline: which network, and how it learns."""

    network: Literal["spiking", "conv"]
    method: Literal["maml", "transfer"]
    second_order: bool = True


MODELS: Mapping[str, Model] = {
    "snn-maml": Model("spiking", "maml"),
    "snn-fomaml": Model("spiking", "maml", second_order=False),
    "cnn-maml": Model("conv", "maml"),
    "cnn-fomaml": Model("conv", "maml", second_order=False),
    "snn-transfer": Model("spiking", "transfer"),
    "cnn-transfer": Model("conv", "transfer"),
}


def _option(default: T, help: str) -> T:
    made: T = field(default=default, metadata={"help": help})
    return made


@dataclass(frozen=True)
class RunConfig:
    """A training run; equal configurations on equal archives give equal weights (on a CPU, with as many threads)."""

    model: str = _option("snn-maml", "which baseline")
    recipe: str = _option("paper", "the named configuration that it began as")

    dataset: str = _option("double-nmnist", "trained on its train split, chosen on its val split")
    pairing: str = _option("all", "all or published")
    classes: str = _option("published", "published or novel-components")
    ways: int = _option(5, "classes of a task")
    shots: int = _option(1, "support samples a class")
    queries: int = _option(10, "query samples a class")
    shift: int = _option(
        0,
        "cells by which each recording of a training sample is moved at random, at most, on both axes",
    )

    channels: tuple[int, ...] = _option((32, 64, 128), "of the convolutions")
    kernel: int = _option(5, "size of their kernels")
    pooling: Literal["max", "average"] = _option(
        "max", "max (the paper) or average (its released code)"
    )
    norm_groups: int = _option(
        0, "groups of a normalization of each sample after each convolution; 0 for none"
    )
    burn_in: int = _option(70, "frames (ms) at the beginning of a sample that carry no gradient")
    time_stride: int = _option(1, "frames (ms) averaged into one time step of the network")

    inner_steps: int = _option(1, "gradient steps of the inner loop")
    test_steps: int = _option(0, "the same when tested; 0 for as many as in training")
    inner_lr: float = _option(1.0, "their rate")
    learn_inner_lrs: bool = _option(False, "learn a rate for each parameter tensor")
    inner_layers: str = _option(
        "all", "what learns in the inner loop: all, head, body, or i: frozen below layer i"
    )

    steps: int = _option(20_000, "outer steps, over which the rate falls by half a cosine")
    meta_batch_size: int = _option(1, "tasks of a step, over all processes")
    lr: float = _option(2e-3, "Adam's rate at the beginning")
    min_lr_ratio: float = _option(1 / 50, "share of it that is left at the end")
    precision: Literal["float32", "bfloat16"] = _option(
        "float32", "float32, or bfloat16 for mixed precision"
    )
    val_every: int = _option(250, "outer steps between validations, the best of which is kept")
    val_episodes: int = _option(100, "episodes of a validation")
    pretrain_steps: int = _option(
        0, "steps of supervised pre-training that meta-learning starts from, a run of its own"
    )
    seed: int = _option(0, "of weights, episodes and shifts")

    batch_size: int = _option(32, "pre-training: samples of a step")
    holdout_every: int = _option(
        10,
        "pre-training: every so manieth recording of a label is kept out, to report on; 0 for none",
    )
    head_steps: int = _option(
        100, "transfer: gradient steps of an episode's new last layer, with momentum"
    )
    head_lr: float = _option(0.1, "transfer: their rate")
    head_weight_decay: float = _option(1e-3, "transfer: their weight decay")

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise UsageError(f"model={self.model!r}; choose one of {', '.join(MODELS)}")
        object.__setattr__(self, "channels", tuple(self.channels))
        choices = {"pooling": ("max", "average"), "precision": ("float32", "bfloat16")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name}={getattr(self, name)!r}; choose {' or '.join(allowed)}")
        at_least = {
            "ways": 2, "shots": 1, "queries": 1, "shift": 0, "kernel": 1, "norm_groups": 0, "burn_in": 0, "time_stride": 1,
            "inner_steps": 0, "test_steps": 0, "steps": 1, "meta_batch_size": 1,
            "val_every": 1, "val_episodes": 1, "pretrain_steps": 0,
            "seed": 0, "batch_size": 1, "holdout_every": 0, "head_steps": 1,
        }  # fmt: skip
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)}; give at least {least}")
        if self.lr <= 0 or self.inner_lr <= 0 or self.head_lr <= 0:
            raise UsageError(
                "a learning rate must be above 0; give lr, inner_lr and head_lr such as 1e-3"
            )

    @property
    def kind(self) -> Model:
        return MODELS[self.model]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The configuration in a JSON document.

        Raises:
            UsageError: a field that there is none of, as a newer release may write.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UsageError(
                f"the configuration has {unknown[0]!r}, unknown to this release; use the one that wrote it"
            )
        return cls(**values)

    @property
    def file_name(self) -> str:
        """What its weights are called where they ship; a transferred network takes any number of ways."""
        ways = f".{self.ways}way" if self.kind.method == "maml" else ""
        return f"{self.model}.{self.recipe}.{self.dataset}.{self.classes}{ways}.safetensors"

    @property
    def pretraining(self) -> RunConfig:
        """The supervised run that this one starts from."""
        return replace(
            self,
            model=f"{self.model.split('-')[0]}-transfer",
            steps=self.pretrain_steps,
            pretrain_steps=0,
            **_PRETRAINING,
        )

    def network(
        self, frame_shape: tuple[int, ...], ways: int | None = None
    ) -> SpikingNet | ConvNet:
        """The network for frames of shape (T, P, H, W), with `ways` outputs."""
        from baselines.networks import ConvNet, SpikingConfig, SpikingNet, StackConfig

        time, polarities, height, width = frame_shape
        shared: dict[str, Any] = {
            "frame_shape": (time, polarities, height, width),
            "ways": ways or self.ways,
            "channels": self.channels,
            "kernel": self.kernel,
            "pooling": self.pooling,
            "norm_groups": self.norm_groups,
        }
        if self.kind.network == "conv":
            return ConvNet(StackConfig(**shared))
        return SpikingNet(
            SpikingConfig(**shared, burn_in=self.burn_in, time_stride=self.time_stride)
        )

    def meta_learner(self, net: SpikingNet | ConvNet) -> MAML:
        from baselines.maml import MAML, MAMLConfig

        layers: Any = int(self.inner_layers) if self.inner_layers.isdigit() else self.inner_layers
        return MAML(
            net,
            MAMLConfig(
                steps=self.inner_steps,
                test_steps=self.test_steps or None,
                inner_lr=self.inner_lr,
                learn_inner_lrs=self.learn_inner_lrs,
                second_order=self.kind.second_order,
                layers=layers,
            ),
        )


_BEST: Mapping[tuple[str, str], dict[str, Any]] = {
    ("spiking", "transfer"): {"time_stride": 4, "steps": 800, "val_every": 400},
    ("conv", "transfer"): {"norm_groups": 8, "shift": 1, "steps": 800, "val_every": 400},
    ("spiking", "maml"): {"time_stride": 4, "steps": 2000, "val_every": 400, "pretrain_steps": 800},
    ("conv", "maml"): {
        "norm_groups": 8, "shift": 1, "inner_lr": 0.1, "steps": 2000, "val_every": 400, "pretrain_steps": 800,
    },
}  # fmt: skip

_META: Mapping[str, Any] = {"meta_batch_size": 2, "lr": 1e-3, "learn_inner_lrs": True}

_FIRST_ORDER: Mapping[str, Any] = {
    "inner_steps": 5
}  # what the gradient leaves out, more inner steps make up for

_PRETRAINING: Mapping[str, Any] = {
    "lr": 2e-3,
    "learn_inner_lrs": False,
    "inner_steps": 1,
    "meta_batch_size": 1,
    "val_every": 400,
}


def _recipes() -> dict[str, dict[str, RunConfig]]:
    table: dict[str, dict[str, RunConfig]] = {}
    for model, kind in MODELS.items():
        paper = RunConfig(model=model, recipe="paper")
        found = {
            "queries": 5,
            **_BEST[kind.network, kind.method],
            **(_META if kind.method == "maml" else {}),
        }
        found |= {} if kind.second_order else _FIRST_ORDER
        table[model] = {"paper": paper, "best": replace(paper, recipe="best", **found)}
    return table


RECIPES: Mapping[str, Mapping[str, RunConfig]] = _recipes()
"""model -> recipe -> configuration. "paper" is the paper's; "best" is what we found to learn best on little data."""


def recipe(model: str, name: str = "best", **changes: Any) -> RunConfig:
    """A named recipe with some fields changed.

    Raises:
        UsageError: no such model, recipe or field.
    """
    if model not in RECIPES:
        raise UsageError(f"model {model!r}; choose one of {', '.join(RECIPES)}")
    if name not in RECIPES[model]:
        raise UsageError(f"recipe {name!r}; choose one of {', '.join(RECIPES[model])}")
    unknown = sorted(set(changes) - {field.name for field in fields(RunConfig)})
    if unknown:
        raise UsageError(
            f"no field {unknown[0]!r} in a configuration; see `python -m baselines train --help`"
        )
    return replace(RECIPES[model][name], **changes)
