"""The configuration of a training run, and the named recipes.

`RunConfig` is one flat dataclass. It is saved beside every run and inside its weights. `RECIPES`
holds the named configurations of every model. `models` builds networks and learners from a
configuration; `training` runs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from inspect import cleandoc
from itertools import islice
from typing import Any, Literal, TypeVar

from metaevents.arguments import finite_number, whole_number
from metaevents.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Model:
    """A baseline: its network and its learning method.

    Attributes:
        network: "spiking" for `networks.SpikingNet`, "conv" for `networks.ConvNet`.
        method: "maml" for meta-learning, "transfer" for supervised training and a new last layer,
            "components" for supervised training on single components and matching of features.
        second_order: Whether MAML differentiates through the inner gradients.
        reptile: Whether the outer loop is that of REPTILE (Nichol et al. 2018) in place of MAML's.
    """

    network: Literal["spiking", "conv"]
    method: Literal["maml", "transfer", "components"]
    second_order: bool = True
    reptile: bool = False


MODELS: Mapping[str, Model] = {
    "snn-maml": Model("spiking", "maml"),
    "snn-fomaml": Model("spiking", "maml", second_order=False),
    "cnn-maml": Model("conv", "maml"),
    "cnn-fomaml": Model("conv", "maml", second_order=False),
    "snn-reptile": Model("spiking", "maml", second_order=False, reptile=True),
    "cnn-reptile": Model("conv", "maml", second_order=False, reptile=True),
    "snn-transfer": Model("spiking", "transfer"),
    "cnn-transfer": Model("conv", "transfer"),
    "snn-components": Model("spiking", "components"),
    "cnn-components": Model("conv", "components"),
}
"""The baselines by name."""

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "pooling": ("max", "average"),
    "precision": ("float32", "tf32", "bfloat16"),
}

_MAX_COUNT = 1_000_000
_MAX_STEPS = 10**12
_MAX_SEED = 2**63 - 2  # validation takes the next seed

# Field -> least and greatest number. The greatest ones are beyond all use. They bound the work that
# a configuration from a stranger's weights file can ask for.
_WHOLE: Mapping[str, tuple[int, int]] = {
    "ways": (2, _MAX_COUNT), "shots": (1, _MAX_COUNT), "queries": (1, _MAX_COUNT),
    "shift": (0, 10_000), "kernel": (1, 1001), "norm_groups": (0, _MAX_COUNT),
    "burn_in": (0, _MAX_COUNT), "time_stride": (1, _MAX_COUNT), "inner_steps": (0, 10_000),
    "test_steps": (0, 10_000), "steps": (1, _MAX_STEPS), "meta_batch_size": (1, _MAX_COUNT),
    "val_every": (1, _MAX_STEPS), "val_episodes": (1, _MAX_COUNT),
    "pretrain_steps": (0, _MAX_STEPS), "seed": (0, _MAX_SEED), "batch_size": (1, _MAX_COUNT),
    "holdout_every": (0, _MAX_STEPS), "head_steps": (1, 100_000), "match_aligned": (0, _MAX_COUNT),
    "match_shift": (0, 16),
}  # fmt: skip

_LEARNING_RATES = ("lr", "inner_lr", "head_lr")

# Names become parts of file names.
_NAMES = ("recipe", "dataset", "pairing", "classes")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

_MAX_LAYERS = 16
_MAX_CHANNELS = 1 << 16


def _option(default: T, help: str, components: bool = False) -> T:
    """Return a dataclass field; `help` describes it on the command line and in the reference.

    Args:
        default: The default.
        help: What it is.
        components: Whether only models that compare components have it.
    """
    option: T = field(default=default, metadata={"help": help, "components": components})
    return option


@dataclass(frozen=True)
class RunConfig:
    """The configuration of a training run.

    On a CPU, equal configurations on equal archives with equally many threads give equal weights.
    """

    model: str = _option("snn-maml", "name of the baseline")
    recipe: str = _option("paper", "recipe that this configuration started from")

    dataset: str = _option("double-nmnist", "dataset; trains on its train split")
    pairing: str = _option("all", "pairing of recordings: all or published")
    classes: str = _option(
        "published", "class split: published, or a deal, novel-components to novel-components-10"
    )
    ways: int = _option(5, "classes per episode")
    shots: int = _option(1, "support samples per class")
    queries: int = _option(10, "query samples per class")
    shift: int = _option(
        0,
        "largest random shift of a training sample's recordings, in cells per axis; 0 for none",
    )

    channels: tuple[int, ...] = _option((32, 64, 128), "output channels of each convolution")
    kernel: int = _option(5, "side of the square convolution kernels, in cells; odd")
    pooling: Literal["max", "average"] = _option(
        "max", "2 x 2 pooling: max (the paper) or average (the paper's released code)"
    )
    norm_groups: int = _option(
        0, "groups of the group normalization after each convolution; 0 normalizes nothing"
    )
    burn_in: int = _option(70, "first frames (ms) of a sample, which carry no gradient")
    time_stride: int = _option(1, "frames (ms) that are averaged into one time step of the network")

    inner_steps: int = _option(1, "gradient steps of the inner loop")
    test_steps: int = _option(
        0, "gradient steps of the inner loop at test time; 0 takes as many as in training"
    )
    inner_lr: float = _option(1.0, "learning rate of the inner loop")
    learn_inner_lrs: bool = _option(
        False, "meta-learn one inner learning rate per parameter tensor, starting at inner_lr"
    )
    inner_layers: str = _option(
        "all",
        "layers that the inner loop updates: all, head, body, or the number of the first one",
    )

    steps: int = _option(20_000, "outer (or supervised) steps; sizes the cosine schedule")
    meta_batch_size: int = _option(1, "tasks per outer step, over all processes")
    lr: float = _option(2e-3, "learning rate of Adam at the first step")
    min_lr_ratio: float = _option(1 / 50, "final learning rate as a share of lr")
    precision: Literal["float32", "tf32", "bfloat16"] = _option(
        "float32",
        "float32, tf32 (on a GPU: faster products of 10 bits of mantissa), or bfloat16 for mixed "
        "precision",
    )
    val_every: int = _option(
        250, "steps between validations; the best validation's weights are kept"
    )
    val_episodes: int = _option(100, "episodes per validation")
    pretrain_steps: int = _option(
        0, "steps of the supervised pre-training run that meta-learning starts from; 0 for none"
    )
    seed: int = _option(0, "seed of initial weights, episodes and shifts")

    batch_size: int = _option(32, "pre-training: samples per step, over all processes")
    holdout_every: int = _option(
        10, "pre-training: hold out every n-th recording of a label; 0 holds out none"
    )
    head_steps: int = _option(100, "transfer: gradient steps of the new last layer, per episode")
    head_lr: float = _option(0.1, "transfer: learning rate of the new last layer")
    head_weight_decay: float = _option(1e-3, "transfer: weight decay of the new last layer")

    match_aligned: int = _option(
        2,
        "components: number of the first convolutions that are compared after alignment",
        components=True,
    )
    match_shift: int = _option(
        1, "components: largest shift of the support that is tried, in cells", components=True
    )
    match_turn: float = _option(
        15.0, "components: turn of the support that is tried both ways, in degrees", components=True
    )
    match_scale: float = _option(
        1.18, "components: factor by which the support is enlarged and reduced", components=True
    )
    sharing: float = _option(
        0.0,
        "components: weight of the comparison with all support sides of an episode; 0 compares "
        "with the class's own sides alone",
        components=True,
    )

    def __post_init__(self) -> None:
        """Check every field, and make numbers of other libraries Python numbers."""
        if not isinstance(self.model, str) or self.model not in MODELS:
            raise UsageError(f"model={self.model!r}; choose one of {', '.join(MODELS)}")
        for name in _NAMES:
            value = getattr(self, name)
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise UsageError(
                    f"{name}={value!r} is no name; give letters, digits, '.', '-' or '_'"
                )
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in allowed:
                raise UsageError(f"{name}={value!r}; choose {' or '.join(allowed)}")
        checked: dict[str, Any] = {
            name: whole_number(name, getattr(self, name), least=least, most=most)
            for name, (least, most) in _WHOLE.items()
        }
        checked["channels"] = check_channels(self.channels)
        for name in _LEARNING_RATES:
            checked[name] = finite_number(name, getattr(self, name))
            if checked[name] <= 0:
                raise UsageError(
                    f"{name}={checked[name]:g}; a learning rate must be above 0, such as 1e-3"
                )
        checked["min_lr_ratio"] = finite_number("min_lr_ratio", self.min_lr_ratio, least=0, most=1)
        checked["head_weight_decay"] = finite_number(
            "head_weight_decay", self.head_weight_decay, least=0
        )
        checked["match_turn"] = finite_number("match_turn", self.match_turn, least=0, most=180)
        checked["match_scale"] = finite_number("match_scale", self.match_scale, least=1, most=100)
        checked["sharing"] = finite_number("sharing", self.sharing, least=0, most=1e6)
        if checked["kernel"] % 2 == 0:
            raise UsageError(f"kernel={checked['kernel']} is even; give an odd number, such as 5")
        if not isinstance(self.learn_inner_lrs, bool):
            raise UsageError(f"learn_inner_lrs={self.learn_inner_lrs!r}; give True or False")
        if self.learn_inner_lrs and self.kind.reptile:
            raise UsageError(
                f"learn_inner_lrs=True with {self.model}; REPTILE has no gradient by the learning"
                " rate of the inner loop, so give False"
            )
        samples = checked["ways"] * (checked["shots"] + checked["queries"])
        if self.kind.reptile and not 1 <= checked["inner_steps"] <= samples:
            raise UsageError(
                f"inner_steps={checked['inner_steps']} with {self.model}; the inner steps share the"
                f" {samples} samples of a training task, so give 1 to {samples}"
            )
        depth = len(checked["channels"])
        if self.kind.method == "components" and checked["match_aligned"] > depth:
            raise UsageError(
                f"match_aligned={checked['match_aligned']}; the network has {depth} convolutions"
            )
        layers = ("all", "head", "body", *map(str, range(depth + 1)))
        if not isinstance(self.inner_layers, str) or self.inner_layers not in layers:
            raise UsageError(
                f"inner_layers={self.inner_layers!r}; give all, head, body, or the number of the "
                f"first layer that the inner loop updates, 0 to {depth}"
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def kind(self) -> Model:
        """The network and the learning method of `model`."""
        return MODELS[self.model]

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as a JSON document, without fields of other models alone."""
        others = set() if self.kind.method == "components" else _COMPONENT_FIELDS
        values = {**asdict(self), "channels": list(self.channels)}
        return {name: value for name, value in values.items() if name not in others}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Return the configuration in a JSON document.

        Args:
            values: Fields by name. A missing field has its default.

        Raises:
            UsageError: a field is unknown, as one of a newer release may be, or has a wrong value.
        """
        if not isinstance(values, Mapping):
            raise UsageError(f"the configuration is {type(values).__name__}, expected an object")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UsageError(
                f"the configuration has the field {unknown[0]!r}, unknown to this release; read"
                " it with the release that wrote it"
            )
        return cls(**values)

    @property
    def file_name(self) -> str:
        """The file name of the weights that ship.

        Transfer weights serve any number of ways. Pairing "all" and seed 0 are not named, so
        `snn-maml.best.double-nmnist.published.5way.seed1.safetensors` is the training with seed 1.
        """
        parts = [self.model, self.recipe, self.dataset, self.classes]
        parts += [f"{self.ways}way"] if self.kind.method == "maml" else []
        parts += [f"{self.pairing}-pairing"] if self.pairing != "all" else []
        parts += [f"seed{self.seed}"] if self.seed else []
        return ".".join([*parts, "safetensors"])

    def variant(self, recipe: str) -> RunConfig:
        """Return the configuration of another recipe that takes the same weights.

        Recipes of models that compare components train alike and compare differently. All others
        have weights of their own.

        Args:
            recipe: Name of the recipe.

        Raises:
            UsageError: The recipe is unknown or needs other weights.
        """
        if recipe == self.recipe:
            return self
        alike = SAME_WEIGHTS if self.kind.method == "components" else ()
        if recipe not in alike or self.recipe not in alike:
            raise UsageError(
                f"recipe {recipe!r} of {self.model} has other weights than {self.recipe!r}; load "
                f"the weights of recipe {recipe!r}"
            )
        return replace(self, recipe=recipe, sharing=RECIPES[self.model][recipe].sharing)

    @property
    def pretraining(self) -> RunConfig:
        """The configuration of the supervised run that this run starts from."""
        return replace(
            self,
            model=f"{self.model.split('-')[0]}-transfer",
            steps=self.pretrain_steps,
            pretrain_steps=0,
            **_PRETRAINING,
        )


def check_channels(channels: Iterable[int]) -> tuple[int, ...]:
    """Return the output channels of convolutions as Python integers.

    Args:
        channels: One number per convolution.

    Raises:
        UsageError: There are none, or too many, or a number is out of range.
    """
    try:
        sizes = tuple(islice(channels, _MAX_LAYERS + 1))
    except TypeError:
        sizes = ()
    if not 1 <= len(sizes) <= _MAX_LAYERS:
        raise UsageError(
            f"channels={str(channels)[:60]}; give 1 to {_MAX_LAYERS} numbers, such as 32 64"
        )
    return tuple(whole_number("channels", size, least=1, most=_MAX_CHANNELS) for size in sizes)


_COMPONENT_FIELDS = {each.name for each in fields(RunConfig) if each.metadata["components"]}

# The field descriptions stand once: here they become the reference's `Attributes:`.
RunConfig.__doc__ = (
    cleandoc(RunConfig.__doc__ or "")
    + "\n\nAttributes:\n"
    + "".join(
        f"    {each.name}: {help[0].upper()}{help[1:]}. Default: {each.default!r}.\n"
        for each in fields(RunConfig)
        for help in [each.metadata["help"]]
    )
)

_BEST: Mapping[tuple[str, str], dict[str, Any]] = {
    ("spiking", "transfer"): {"time_stride": 4, "steps": 800, "val_every": 400},
    ("conv", "transfer"): {"norm_groups": 8, "shift": 1, "steps": 800, "val_every": 400},
    ("spiking", "maml"): {"time_stride": 4, "steps": 2000, "val_every": 400, "pretrain_steps": 800},
    ("conv", "maml"): {
        "norm_groups": 8, "shift": 1, "inner_lr": 0.1, "steps": 2000, "val_every": 400,
        "pretrain_steps": 800,
    },
}  # fmt: skip

_MATCHING: Mapping[str, dict[str, Any]] = {
    "spiking": {
        "time_stride": 4, "steps": 4000, "val_every": 1000, "shift": 1, "match_shift": 0,
    },
    "conv": {"norm_groups": 8, "steps": 4000, "val_every": 1000, "shift": 1},
}  # fmt: skip

SAME_WEIGHTS = ("best", "own")
"""Recipes, of models that compare components, that take the same weights."""

_SHARING = 2.5  # of the recipe that compares with all support sides

_META: Mapping[str, Any] = {"meta_batch_size": 2, "lr": 1e-3, "learn_inner_lrs": True}

# More inner steps make up for the terms that first-order gradients leave out.
_FIRST_ORDER: Mapping[str, Any] = {"inner_steps": 5}

# The numbers of steps and of samples per step are those of Nichol et al. (2018) for 5-way 1-shot:
# 5 steps on 10 samples each. The rest was chosen on validation episodes.
_REPTILE: Mapping[str, Any] = {"inner_steps": 5, "queries": 9, "learn_inner_lrs": False}

# Several steps at the paper's learning rate of 1 diverge without spikes and normalization.
_REPTILE_INNER_LR: Mapping[str, float] = {"spiking": 1.0, "conv": 0.01}

# Without what the paper's network does not have.
_PLAIN: Mapping[str, Any] = {"norm_groups": 0, "shift": 0}

_PRETRAINING: Mapping[str, Any] = {
    "lr": 2e-3,
    "learn_inner_lrs": False,
    "inner_steps": 1,
    "meta_batch_size": 1,
    "val_every": 400,
}


def _recipes() -> dict[str, dict[str, RunConfig]]:
    """Return model -> recipe -> configuration."""
    table: dict[str, dict[str, RunConfig]] = {}
    for model, kind in MODELS.items():
        if kind.method == "components":
            own = RunConfig(model=model, recipe="own", **_MATCHING[kind.network])
            table[model] = {
                "paper": RunConfig(model=model, recipe="paper"),
                "best": replace(own, recipe="best", sharing=_SHARING),
                "own": own,
            }
            continue
        paper = RunConfig(model=model, recipe="paper")
        changes = {
            "queries": 5,
            **_BEST[kind.network, kind.method],
            **(_META if kind.method == "maml" else {}),
            **({} if kind.second_order else _FIRST_ORDER),
        }
        if kind.reptile:
            inner_lr = _REPTILE_INNER_LR[kind.network]
            paper, changes = (
                replace(paper, inner_lr=inner_lr, **_REPTILE),
                {**changes, **_REPTILE},
            )
        best = replace(paper, recipe="best", **changes)
        table[model] = {"paper": paper, "best": best}
        if kind.network == "conv":
            table[model]["plain"] = replace(best, recipe="plain", **_PLAIN)
    return table


RECIPES: Mapping[str, Mapping[str, RunConfig]] = _recipes()
"""model -> recipe -> configuration. "paper" is that of Stewart and Neftci (2022), with the inner
loop of Nichol et al. (2018) for REPTILE. "best" had the highest validation accuracy of those tried
on 1,000 recordings. "plain", of networks without spikes, is "best" without group normalization and
without random shifts, which the paper's network does not have. "own", of models that compare
components, is "best" without the comparison with the sides of other classes; it takes the same
weights. The paper has no such models, so their "paper" is its network alone."""


def recipe(model: str, name: str = "best", **changes: Any) -> RunConfig:
    """Return a named recipe with some fields changed.

    Args:
        model: a key of `MODELS`.
        name: "paper" or "best"; "plain" for a network without spikes; "own" for a model that
            compares components.
        changes: Fields of `RunConfig` and their new values.

    Raises:
        UsageError: The model, the recipe or a field is unknown, or a value is wrong.
    """
    if model not in RECIPES:
        raise UsageError(f"model {model!r}; choose one of {', '.join(RECIPES)}")
    if name not in RECIPES[model]:
        raise UsageError(f"recipe {name!r}; choose one of {', '.join(RECIPES[model])}")
    unknown = sorted(set(changes) - {field.name for field in fields(RunConfig)})
    if unknown:
        raise UsageError(
            f"the configuration has no field {unknown[0]!r}; `python -m baselines train --help`"
            " lists the fields"
        )
    return replace(RECIPES[model][name], **changes)
