"""Floors: methods so plain that a learner should beat them before anything is claimed for it.

None of them meta-learns. All but the last look at nothing but an episode's support, as counts summed over the window. The
component recognizer knows the digits (or letters) that a sample is made of, from single recordings of the training
partition; what a method scores beyond it is what it can do with components that it never saw.

`TRIVIAL_BASELINES` has them by name, for `metaevents evaluate floor:NAME`. `python -m metaevents.benchmark.trivial_report --archive FILE
--out DIR`
runs all of them and writes their entries and a table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metaevents.benchmark.learners import Classifier
from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)


class _OnSums:
    """Floors on counts summed over the window, as numpy arrays [n, P, H, W]."""

    representation = "sum"
    numpy = True
    parameters = 0


class Chance(_OnSums):
    """Scores drawn at random; the expected accuracy is 1 / ways."""

    title = "Chance"

    def adapt(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> Classifier:
        import torch

        return lambda query_x: torch.rand(len(query_x), ways)


class NearestNeighbor(_OnSums):
    """The class of the nearest support sample, Euclidean distance of time-summed counts."""

    title = "Nearest neighbor, time-summed"

    def adapt(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> Classifier:
        support = _flat(support_x)

        def classify(query_x: np.ndarray) -> np.ndarray:
            distances = _squared_distances(_flat(query_x), support)
            return np.stack(
                [-distances[:, support_y == k].min(axis=1) for k in range(ways)], axis=1
            )

        return classify


class Prototypes(_OnSums):
    """The class of the nearest class mean, Euclidean distance of time-summed counts."""

    title = "Nearest class mean, time-summed"

    def adapt(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> Classifier:
        support = _flat(support_x)
        means = np.stack([support[support_y == k].mean(axis=0) for k in range(ways)])
        return lambda query_x: -_squared_distances(_flat(query_x), means)


class LogisticRegression(_OnSums):
    """scikit-learn's logistic regression (L2, C = 1) on time-summed counts, scaled by their deviation over the support."""

    title = "Logistic regression, time-summed"

    def adapt(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> Classifier:
        from sklearn.linear_model import LogisticRegression

        support = _flat(support_x)
        scale = support.std() or 1.0
        model = LogisticRegression(max_iter=1000).fit(support / scale, support_y)
        return lambda query_x: model.predict_log_proba(_flat(query_x) / scale)


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float64)


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[n, m]; exact for counts, whose squares float64 holds."""
    distances: np.ndarray = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
    return distances


_PER_LABEL = 1000  # recordings a component label that it learns from, at most

_STEPS = 1000

_BATCH = 64

_RATE = 2e-3

_SHIFT = 2  # cells that a training recording is moved at most, on each axis


class ComponentRecognizer:
    """Matches what a small CNN, trained on single recordings, says about the left and the right half of a sample.

    The CNN sees the time-summed counts of one recording on the composed grid, of the training partition and of the train
    components of the dataset's class split alone (all digits of the published split, digits 0 to 3 of novel components). A class
    is what its support samples say, for each side the normalized product of their posteriors; a query's score for it is the
    log-probability that both show the same label on every side. There is no meta-learning, and an episode's queries do
    not know of each other.

    Args:
        dataset: any split; says the archive, the class split and the geometry.
        seed: of weights, order and shifts.
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
        import torch

        told = self._posteriors(support_x)
        classes = torch.stack([told[support_y == k].sum(dim=0) for k in range(ways)]).log_softmax(
            dim=-1
        )

        def classify(query_x: torch.Tensor) -> torch.Tensor:
            both = self._posteriors(query_x)[:, None] + classes
            return both.logsumexp(dim=-1).sum(dim=-1)

        return classify

    def _posteriors(self, x: torch.Tensor) -> torch.Tensor:
        """Log-posteriors of every side; [n, sides, labels]."""
        import torch

        with torch.no_grad():
            halves = torch.stack(x.float().chunk(self.sides, dim=-1), dim=1)
            log_posteriors: torch.Tensor = self.parameters(halves.flatten(0, 1)).log_softmax(dim=-1)
        return log_posteriors.view(len(x), self.sides, -1)


def train_components(dataset: ComposedDataset) -> tuple[str, ...]:
    """The component labels of the train classes of the dataset's class split."""
    classes = dataset.rules.splits[dataset.class_split]["train"]
    return tuple(sorted({label for components in classes for label in components}))


def train_recognizer(dataset: ComposedDataset, seed: int = 0) -> nn.Module:
    """A CNN [n, P, H, W / sides] -> logits over `train_components(dataset)`, trained on single recordings; see above.

    Raises:
        UsageError: the archive has no recordings to train on.
    """
    import torch
    from torch.nn import functional as F
    from tqdm import trange

    x, y = _single_recordings(dataset)
    right = 0
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = _recognizer(x.shape[1:], len(train_components(dataset)))
        optimizer = torch.optim.Adam(model.parameters(), _RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
        for step in trange(_STEPS, desc="train recognizer", unit="step", leave=False, disable=None):
            chosen = torch.randint(len(x), (_BATCH,))
            moved = torch.randint(-_SHIFT, _SHIFT + 1, (2,)).tolist()
            logits = model(_shifted(x[chosen].float(), *moved))
            optimizer.zero_grad()
            F.cross_entropy(logits, y[chosen]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if step >= _STEPS - 100:
                right += int((logits.argmax(dim=1) == y[chosen]).sum())
    logger.info("component recognizer: %.1f %% right on its last hundred batches", right / _BATCH)
    return model.eval().requires_grad_(False)


def _recognizer(shape: Sequence[int], labels: int) -> nn.Module:
    from torch import nn

    class Compress(nn.Module):
        """Counts span decades; their logarithm does not."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.log1p()

    polarities, height, width = shape
    features = 64 * (height // 4) * (width // 4)
    return nn.Sequential(
        Compress(),
        nn.Conv2d(polarities, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(features, labels),
    )  # fmt: skip


def _shifted(x: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Images moved by whole cells, zeros moving in."""
    from torch.nn import functional as F

    height, width = x.shape[-2:]
    padded = F.pad(x, (_SHIFT, _SHIFT, _SHIFT, _SHIFT))
    return padded[
        ..., _SHIFT - down : _SHIFT - down + height, _SHIFT - right : _SHIFT - right + width
    ]


def _single_recordings(dataset: ComposedDataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Time-summed counts [n, P, H, W / sides] float16 of training recordings, and which train component each shows."""
    import torch

    sides = dataset.rules.composition.arity
    images, labels = [], []
    for place, label in enumerate(train_components(dataset)):
        recordings = dataset.archive.select(label, ["train"])
        recordings = recordings[:: -(-len(recordings) // _PER_LABEL) or 1]
        if not len(recordings):
            raise UsageError(
                f"{dataset.archive.path} has no training recording of {label!r}; build it from more recordings"
            )
        # A sample with the recording on every side shows it, cell for cell, on the left.
        sums = dataset.stack_sums(
            [(int(index),) * sides for index in recordings], dtype=torch.float16
        )
        images.append(sums[..., : sums.shape[-1] // sides].clone())
        labels.append(torch.full((len(recordings),), place))
    return torch.cat(images), torch.cat(labels)


TRIVIAL_BASELINES: Mapping[str, Callable[[ComposedDataset], Any]] = {
    "chance": lambda dataset: Chance(),
    "nearest-neighbour": lambda dataset: NearestNeighbor(),
    "prototypes": lambda dataset: Prototypes(),
    "logistic-regression": lambda dataset: LogisticRegression(),
    "component-recogniser": ComponentRecognizer,
}
"""name -> what makes the floor for a dataset."""
