"""Trivial baselines that every method should beat.

None of them meta-learns. All but the component recognizer use nothing but the support of an
episode, as counts summed over time. The component recognizer was trained to recognize the digits
(or letters) that samples are composed of, on single recordings of the training partition. What a
method scores above it comes from components that it never saw.

`TRIVIAL_BASELINES` holds them by name, for `metaevents evaluate floor:NAME`. Running all of them
and writing their entries is left to `metaevents.benchmark.trivial_report`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metaevents.augmentation import shift_cells
from metaevents.benchmark.alignment import Versions, blur, sides_of
from metaevents.benchmark.learners import Classifier
from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError
from metaevents.files import progress_bar
from metaevents.global_state import ordinary_tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)


class _OnSums:
    """Base of the baselines on time-summed counts, which are numpy arrays [n, P, H, W]."""

    representation = "sum"
    numpy = True
    parameters = 0


class Chance(_OnSums):
    """Scores drawn at random; the expected accuracy is 1 / ways."""

    title = "Chance"

    def adapt(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> Classifier:
        """Return a classifier that ignores support and query."""
        import torch

        return lambda query_x: torch.rand(len(query_x), ways, dtype=torch.float32, device="cpu")

    def costs(
        self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray, ways: int
    ) -> dict[str, Any]:
        """Return the costs: no operation and no memory."""
        nothing = _costs_of_products(0, 0, 0)
        return {**nothing, "adaptation": nothing}


class NearestNeighbor(_OnSums):
    """The class of the nearest support sample, Euclidean distance of time-summed counts."""

    title = "Nearest neighbor, time-summed"

    def adapt(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> Classifier:
        """Return a classifier whose scores are negative squared distances."""
        support = _flatten(support_x)

        def classify(query_x: np.ndarray) -> np.ndarray:
            distances = _squared_distances(_flatten(query_x), support)
            return np.stack(
                [-distances[:, support_y == k].min(axis=1) for k in range(ways)], axis=1
            )

        return classify

    def costs(
        self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray, ways: int
    ) -> dict[str, Any]:
        """Return the costs: the products of a query and the support samples, which are kept."""
        support = _flatten(support_x)
        return {
            **_costs_of_linear_map(_flatten(query_x), support, support.nbytes),
            "adaptation": _costs_of_products(0, 0, support.nbytes),
        }


class Prototypes(_OnSums):
    """The class of the nearest class mean, Euclidean distance of time-summed counts."""

    title = "Nearest class mean, time-summed"

    def adapt(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> Classifier:
        """Return a classifier whose scores are negative squared distances.

        Args:
            support_x: Time-summed counts of the support [ways * shots, P, H, W].
            support_y: Labels [ways * shots], in 0 .. ways - 1.
            ways: Number of classes.

        Returns:
            A function from queries [n, P, H, W] to scores [n, ways].
        """
        means = self._means(support_x, support_y, ways)
        return lambda query_x: -_squared_distances(_flatten(query_x), means)

    def _means(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> np.ndarray:
        support = _flatten(support_x)
        return np.stack([support[support_y == k].mean(axis=0) for k in range(ways)])

    def costs(
        self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray, ways: int
    ) -> dict[str, Any]:
        """Return the costs: the products of a query and the class means.

        Args:
            support_x: As for `adapt`.
            support_y: As for `adapt`.
            query_x: Queries [n, P, H, W], over which the costs are averaged.
            ways: Number of classes.

        Returns:
            The costs of a query and of an adaptation; see `learner_metrics`.
        """
        means = self._means(support_x, support_y, ways)
        return _costs_of_linear_map(_flatten(query_x), means, means.nbytes)


class LogisticRegression(_OnSums):
    """Logistic regression (scikit-learn, L2, C = 1) on time-summed counts of unit deviation.

    The counts are divided by their standard deviation over all cells of the support.
    """

    title = "Logistic regression, time-summed"

    def adapt(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> Classifier:
        """Return a classifier whose scores are log-probabilities."""
        model, scale = self._fit(support_x, support_y)
        return lambda query_x: model.predict_log_proba(_flatten(query_x) / scale)

    def _fit(self, support_x: np.ndarray, support_y: np.ndarray) -> tuple[Any, float]:
        """Return the model, and the scale by which its input is divided."""
        from sklearn.linear_model import LogisticRegression

        support = _flatten(support_x)
        scale = support.std() or 1.0
        return LogisticRegression(max_iter=1000).fit(support / scale, support_y), scale

    def costs(
        self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray, ways: int
    ) -> dict[str, Any]:
        """Return the costs: the products of a query and the coefficients."""
        model, _ = self._fit(support_x, support_y)
        footprint = model.coef_.nbytes + model.intercept_.nbytes
        return _costs_of_linear_map(_flatten(query_x), model.coef_, footprint)


class AlignedMatching:
    """The class of the nearest support sample, each side compared by itself and aligned first.

    The time-summed counts of each side are blurred (deviation 0.7 cells). The distance of two sides
    is one minus the greatest cosine over small shifts, turns and scales of the support's side (see
    `Versions`). The distance of two samples is the sum over their sides. Nothing is trained.

    Args:
        sides: Number of sides of a sample.
        versions: The shifts, turns and scales.
    """

    title = "Aligned matching"
    representation = "sum"
    parameters = 0

    def __init__(self, sides: int, versions: Versions | None = None) -> None:
        self.sides, self.versions = sides, versions or Versions()

    def adapt(self, support_x: torch.Tensor, support_y: torch.Tensor, ways: int) -> Classifier:
        """Return a classifier whose scores are negative distances."""
        import torch

        versions = self._versions(support_x)

        def classify(query_x: torch.Tensor) -> torch.Tensor:
            query = self._unit(self._blurred(query_x))
            # A loop over sides keeps the products small: queries x versions x support samples.
            distances = torch.stack(
                [1 - (query[:, side] @ versions[side].mT).amax(dim=0) for side in range(self.sides)]
            ).sum(0)
            return torch.stack(
                [-distances[:, support_y == k].amin(dim=1) for k in range(ways)], dim=1
            )

        return classify

    def _versions(self, support_x: torch.Tensor) -> torch.Tensor:
        """Return all versions of all sides of samples, of norm 1, [sides, versions, n, d]."""
        import torch

        blurred = self._blurred(support_x)
        versions = torch.stack(list(self.versions.of(blurred.flatten(0, 1))))
        by_side = versions.view(len(versions), *blurred.shape[:2], *versions.shape[2:])
        return self._unit(by_side).permute(2, 0, 1, 3)

    def _blurred(self, x: torch.Tensor) -> torch.Tensor:
        """Return the blurred sides of samples, [n, sides, P, H, W] float64."""
        sides = sides_of(x.double(), self.sides)
        return blur(sides.flatten(0, 1), _BLUR).view(sides.shape)

    def _unit(self, x: torch.Tensor) -> torch.Tensor:
        """Return images [..., P, H, W] as vectors [..., d] of norm 1; an empty image stays zero."""
        from torch.nn.functional import normalize

        return normalize(x.flatten(-3), dim=-1)

    def costs(
        self, support_x: torch.Tensor, support_y: torch.Tensor, query_x: torch.Tensor, ways: int
    ) -> dict[str, Any]:
        """Return the costs: the products of a query and all versions of the support samples.

        Blurring, turning and scaling are not counted.
        """
        versions = self._versions(support_x).numpy()
        query = self._unit(self._blurred(query_x)).numpy()
        per_side = [
            _costs_of_linear_map(query[:, side], versions[side].reshape(-1, query.shape[-1]), 0)
            for side in range(self.sides)
        ]
        effective, dense = (
            sum(each[name] for each in per_side) for name in ("effective_macs", "dense_operations")
        )
        return {
            **_costs_of_products(effective, dense, versions.nbytes),
            "adaptation": _costs_of_products(0, 0, versions.nbytes),
        }


_BLUR = 0.7  # deviation of the Gaussian, in cells


def _costs_of_linear_map(x: np.ndarray, weights: np.ndarray, footprint: int) -> dict[str, Any]:
    """Return the costs of the products of samples [n, d] and weights [m, d], per sample."""
    effective = int(((x != 0).astype(np.float64) @ (weights != 0).T.astype(np.float64)).sum())
    return _costs_of_products(effective / len(x), weights.size, footprint)


def _costs_of_products(effective: float, dense: float, footprint: int) -> dict[str, Any]:
    """Return costs without spikes: effective and all multiply-accumulations, and the memory."""
    return {
        "footprint_bytes": footprint,
        "effective_macs": effective,
        "effective_acs": 0,
        "dense_operations": dense,
    }


def _flatten(x: np.ndarray) -> np.ndarray:
    """Return samples [n, ...] as vectors [n, d] float64."""
    return x.reshape(len(x), -1).astype(np.float64)


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the squared distances between a [n, d] and b [m, d], [n, m]; exact for counts."""
    distances: np.ndarray = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
    return distances


_MAX_RECORDINGS = 1000  # training recordings per component
_TRAIN_STEPS = 1000
_BATCH_SIZE = 64
_LR = 2e-3
_MAX_SHIFT = 2  # cells that a training batch is shifted on each axis, at most


class ComponentRecognizer:
    """Compares the component posteriors of a small CNN for each side of query and support.

    The CNN sees the time-summed counts of one recording on the composed grid. It is trained on the
    training partition and on the components of the train classes only: all digits for the published
    class split, digits 0 to 3 for novel components. For each side, a class is represented by the
    normalized product of the posteriors of its support samples. A query's score for the class is
    the log-probability that both show the same component on every side. There is no meta-learning,
    and every query is classified independently.

    Args:
        dataset: Any split; defines the archive, the class split and the geometry.
        seed: Seed of weights, batches and shifts.

    Attributes:
        parameters: The CNN.
        seen: What it was trained on.

    Raises:
        UsageError: The archive has no training recording of a component.
    """

    title = "Component recognizer"
    representation = "sum"

    def __init__(self, dataset: ComposedDataset, seed: int = 0) -> None:
        self.sides = dataset.rules.composition.arity
        self.parameters = train_recognizer(dataset, seed)
        self.seen = {
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint,
            "partition": "train",
            "labels": list(train_components(dataset)),
            "samples": "single recordings",
            "seed": seed,
        }

    def adapt(self, support_x: torch.Tensor, support_y: torch.Tensor, ways: int) -> Classifier:
        """Return a classifier whose scores are log-probabilities that the components agree."""
        import torch

        posteriors = self._log_posteriors(support_x)
        classes = torch.stack(
            [posteriors[support_y == k].sum(dim=0) for k in range(ways)]
        ).log_softmax(dim=-1)

        def classify(query_x: torch.Tensor) -> torch.Tensor:
            joint = self._log_posteriors(query_x)[:, None] + classes
            return joint.logsumexp(dim=-1).sum(dim=-1)

        return classify

    def costs(
        self, support_x: torch.Tensor, support_y: torch.Tensor, query_x: torch.Tensor, ways: int
    ) -> dict[str, Any]:
        """Return the costs: the CNN's multiply-accumulations; adapting, those of the support."""
        parameters = sum(
            each.numel() * each.element_size() for each in self.parameters.parameters()
        )
        effective, dense = self._products(query_x)
        adapting = self._products(support_x)
        return {
            **_costs_of_products(effective / len(query_x), dense / len(query_x), parameters),
            "adaptation": _costs_of_products(*adapting, parameters),
        }

    def _products(self, x: torch.Tensor) -> tuple[int, int]:
        """Return the CNN's effective and all multiply-accumulations for samples."""
        import torch
        from torch import nn
        from torch.nn.functional import conv2d

        totals = [0, 0]

        def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
            """Add the sums of a layer with ones in place of nonzero values, and of all values."""
            x, weight = (
                (each != 0).double() for each in (inputs[0], layer.get_parameter("weight"))
            )
            pairs = ((x, weight), (torch.ones_like(x), torch.ones_like(weight)))
            for place, (cells, synapses) in enumerate(pairs):
                if isinstance(layer, nn.Conv2d):
                    sums = conv2d(cells, synapses, stride=layer.stride, padding=layer.padding)
                else:
                    sums = cells @ synapses.T
                totals[place] += int(sums.sum())

        hooks = [
            layer.register_forward_hook(count)
            for layer in self.parameters.modules()
            if isinstance(layer, (nn.Conv2d, nn.Linear))
        ]
        try:
            self._log_posteriors(x)
        finally:
            for hook in hooks:
                hook.remove()
        return totals[0], totals[1]

    def _log_posteriors(self, x: torch.Tensor) -> torch.Tensor:
        """Return the log-posteriors of the components on every side, [n, sides, components]."""
        import torch

        with torch.inference_mode(False), torch.no_grad():
            halves = torch.stack(x.float().chunk(self.sides, dim=-1), dim=1)
            log_posteriors: torch.Tensor = self.parameters(halves.flatten(0, 1)).log_softmax(dim=-1)
        return log_posteriors.view(len(x), self.sides, -1)


def train_components(dataset: ComposedDataset) -> tuple[str, ...]:
    """Return the components of the train classes.

    Args:
        dataset: Any split of the dataset; defines the class split.

    Returns:
        The labels of the components, sorted.
    """
    classes = dataset.rules.class_splits[dataset.class_split]["train"]
    return tuple(sorted({label for components in classes for label in components}))


def train_recognizer(dataset: ComposedDataset, seed: int = 0) -> nn.Module:
    """Train the CNN of `ComponentRecognizer` on single recordings.

    Args:
        dataset: Any split of the dataset.
        seed: Seed of weights, batches and shifts. The global generators stay as they are.

    Returns:
        A frozen module [n, P, H, W / sides] -> logits [n, components], in the order of
        `train_components`.

    Raises:
        UsageError: The archive has no training recording of a component.
    """
    import torch
    from torch.nn import functional as F

    n_correct = 0
    with ordinary_tensors():
        x, y = _single_recordings(dataset)
    with ordinary_tensors(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = _make_recognizer(x.shape[1:], len(train_components(dataset)))
        optimizer = torch.optim.Adam(model.parameters(), _LR)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _TRAIN_STEPS)
        steps = range(_TRAIN_STEPS)
        for step in progress_bar(
            "train recognizer", _TRAIN_STEPS, "step", None, iterable=steps, leave=False
        ):
            batch = torch.randint(len(x), (_BATCH_SIZE,), device="cpu")
            down, right = torch.randint(-_MAX_SHIFT, _MAX_SHIFT + 1, (2,), device="cpu").tolist()
            logits = model(shift_cells(x[batch].float(), down, right))
            optimizer.zero_grad()
            F.cross_entropy(logits, y[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if step >= _TRAIN_STEPS - 100:
                n_correct += int((logits.argmax(dim=1) == y[batch]).sum())
    logger.info(
        "component recognizer: %.1f %% training accuracy over its last 100 batches",
        n_correct / _BATCH_SIZE,
    )
    return model.eval().requires_grad_(False)


def _make_recognizer(shape: Sequence[int], n_components: int) -> nn.Module:
    """Return a CNN with random weights for inputs [n, P, H, W], given (P, H, W)."""
    import torch
    from torch import nn

    class Log1p(nn.Module):
        """The logarithm of 1 + x; the counts span several orders of magnitude."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Return log(1 + x)."""
            return x.log1p()

    polarities, height, width = shape
    pool = tuple(2 if size >= 4 else 1 for size in (height, width))  # one row is not pooled
    features = 64 * (height // pool[0] ** 2) * (width // pool[1] ** 2)
    kind: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # whatever torch's defaults
    return nn.Sequential(
        Log1p(),
        nn.Conv2d(polarities, 32, 3, padding=1, **kind), nn.ReLU(), nn.MaxPool2d(pool),
        nn.Conv2d(32, 64, 3, padding=1, **kind), nn.ReLU(), nn.MaxPool2d(pool),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(features, n_components, **kind),
    )  # fmt: skip


def _single_recordings(dataset: ComposedDataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Return training recordings and their components.

    Returns:
        Time-summed counts [n, P, H, W / sides] float16, and [n] positions in `train_components`.
    """
    import torch

    sides = dataset.rules.composition.arity
    images, targets = [], []
    for position, label in enumerate(train_components(dataset)):
        recordings = dataset.archive.select(label, ["train"])
        recordings = recordings[:: -(-len(recordings) // _MAX_RECORDINGS) or 1]
        if not len(recordings):
            raise UsageError(
                f"{dataset.archive.path} has no training recording of {label!r}; build it from "
                "more recordings"
            )
        # A sample with the recording on every side shows it, cell for cell, on the left.
        sums = dataset.stack_sums(
            [(int(index),) * sides for index in recordings], dtype=torch.float16
        )
        images.append(sums[..., : sums.shape[-1] // sides].clone())
        targets.append(torch.full((len(recordings),), position, dtype=torch.int64, device="cpu"))
    return torch.cat(images), torch.cat(targets)


TITLES: Mapping[str, str] = {
    "chance": Chance.title,
    "nearest-neighbour": NearestNeighbor.title,
    "prototypes": Prototypes.title,
    "logistic-regression": LogisticRegression.title,
    "aligned-matching": AlignedMatching.title,
    "component-recogniser": ComponentRecognizer.title,
}
"""Name of a baseline to its title in tables."""

TRIVIAL_BASELINES: Mapping[str, Callable[[ComposedDataset], Any]] = {
    "chance": lambda dataset: Chance(),
    "nearest-neighbour": lambda dataset: NearestNeighbor(),
    "prototypes": lambda dataset: Prototypes(),
    "logistic-regression": lambda dataset: LogisticRegression(),
    "aligned-matching": lambda dataset: AlignedMatching(dataset.rules.composition.arity),
    "component-recogniser": ComponentRecognizer,
}
"""Name to a function that makes the baseline for a dataset."""
