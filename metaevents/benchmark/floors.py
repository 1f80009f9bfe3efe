"""Floors: methods so plain that a learner should beat them before anything is claimed for it.

None of them meta-learns. All but the last look at nothing but an episode's support, as counts summed over the window. The
component recogniser knows the digits (or letters) that a sample is made of, from single recordings of the training
partition; what a method scores beyond it is what it can do with components that it never saw.

`TABLE` has them by name, for `metaevents evaluate floor:NAME`; `python -m metaevents.benchmark.floors --archive FILE --out DIR`
runs all of them and writes their entries and a table.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaevents import __version__
from metaevents.benchmark.learners import Classifier
from metaevents.double import ComposedDataset, PathLike, load
from metaevents.errors import UsageError
from metaevents.tasks import CLASS_SPLITS, PAIRINGS

if TYPE_CHECKING:
    import torch
    from torch import nn

    from metaevents.benchmark.report import Report

logger = logging.getLogger(__name__)

_PROTOCOLS = ("sample-5way-1shot", "sample-5way-5shot")


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


class NearestNeighbour(_OnSums):
    """The class of the nearest support sample, Euclidean distance of time-summed counts."""

    title = "Nearest neighbour, time-summed"

    def adapt(self, support_x: np.ndarray, support_y: np.ndarray, ways: int) -> Classifier:
        support = _flat(support_x)

        def classify(query_x: np.ndarray) -> np.ndarray:
            distances = _squared_distances(_flat(query_x), support)
            return np.stack([-distances[:, support_y == k].min(axis=1) for k in range(ways)], axis=1)

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


# --- the component recogniser -------------------------------------------------------------------------------------------------

_PER_LABEL = 1000  # recordings a component label that it learns from, at most
_STEPS = 1000
_BATCH = 64
_RATE = 2e-3
_SHIFT = 2  # cells that a training recording is moved at most, on each axis


class ComponentRecogniser:
    """Matches what a small CNN, trained on single recordings, says about the left and the right half of a sample.

    The CNN sees the time-summed counts of one recording on the composed grid, of the training partition and of the train
    components of the dataset's class split alone (all digits of the published split, digits 0 to 3 of novel components). A class
    is what its support samples say, for each side the normalised product of their posteriors; a query's score for it is the
    log-probability that both show the same label on every side. There is no meta-learning, and an episode's queries do
    not know of each other.

    Parameters:
        dataset: any split; says the archive, the class split and the geometry.
        seed: of weights, order and shifts.
    """

    title = "Component recogniser"
    representation = "sum"

    def __init__(self, dataset: ComposedDataset, seed: int = 0) -> None:
        self.sides = dataset.protocol.composition.arity
        self.parameters = train_recogniser(dataset, seed)
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
        classes = torch.stack([told[support_y == k].sum(dim=0) for k in range(ways)]).log_softmax(dim=-1)

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
    classes = dataset.protocol.splits[dataset.class_split]["train"]
    return tuple(sorted({label for components in classes for label in components}))


def train_recogniser(dataset: ComposedDataset, seed: int = 0) -> nn.Module:
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
        model = _recogniser(x.shape[1:], len(train_components(dataset)))
        optimiser = torch.optim.Adam(model.parameters(), _RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
        for step in trange(_STEPS, desc="train recogniser", unit="step", leave=False, disable=None):
            chosen = torch.randint(len(x), (_BATCH,))
            moved = torch.randint(-_SHIFT, _SHIFT + 1, (2,)).tolist()
            logits = model(_shifted(x[chosen].float(), *moved))
            optimiser.zero_grad()
            F.cross_entropy(logits, y[chosen]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if step >= _STEPS - 100:
                right += int((logits.argmax(dim=1) == y[chosen]).sum())
    logger.info("component recogniser: %.1f %% right on its last hundred batches", right / _BATCH)
    return model.eval().requires_grad_(False)


def _recogniser(shape: Sequence[int], labels: int) -> nn.Module:
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
    return padded[..., _SHIFT - down : _SHIFT - down + height, _SHIFT - right : _SHIFT - right + width]


def _single_recordings(dataset: ComposedDataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Time-summed counts [n, P, H, W / sides] float16 of training recordings, and which train component each shows."""
    import torch

    sides = dataset.protocol.composition.arity
    images, labels = [], []
    for place, label in enumerate(train_components(dataset)):
        recordings = dataset.archive.select(label, ["train"])
        recordings = recordings[:: -(-len(recordings) // _PER_LABEL) or 1]
        if not len(recordings):
            raise UsageError(
                f"{dataset.archive.path} has no training recording of {label!r}; build it from more recordings"
            )
        # A sample with the recording on every side shows it, cell for cell, on the left.
        sums = dataset.stack_sums([(int(index),) * sides for index in recordings], dtype=torch.float16)
        images.append(sums[..., : sums.shape[-1] // sides].clone())
        labels.append(torch.full((len(recordings),), place))
    return torch.cat(images), torch.cat(labels)


TABLE: Mapping[str, Callable[[ComposedDataset], Any]] = {
    "chance": lambda dataset: Chance(),
    "nearest-neighbour": lambda dataset: NearestNeighbour(),
    "prototypes": lambda dataset: Prototypes(),
    "logistic-regression": lambda dataset: LogisticRegression(),
    "component-recogniser": ComponentRecogniser,
}
"""name -> what makes the floor for a dataset."""


# --- all floors at once ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One floor under one protocol.

    Attributes:
        name, title: of the floor.
        report: what came of it.
    """

    name: str
    title: str
    report: Report


def run_all(archive: PathLike, protocols: Sequence[str], out: Path) -> Iterator[Run]:
    """Run every floor with both pairings and both class splits; writes an entry and its predictions for each into `out`.

    Raises:
        UsageError: a protocol that does not exist or does not fit the archive.
    """
    from metaevents.archive import Archive
    from metaevents.benchmark.evaluation import evaluate

    dataset_name = Archive(archive).dataset
    out.mkdir(parents=True, exist_ok=True)
    for classes in CLASS_SPLITS:
        splits = {
            pairing: load(dataset_name, archive, "test", pairing=pairing, classes=classes) for pairing in PAIRINGS
        }
        for name, make in TABLE.items():
            learner = make(splits["all"])  # what a floor learns from does not depend on the pairing
            for protocol in protocols:
                for pairing, dataset in splits.items():
                    report = evaluate(learner, dataset, protocol)
                    report.learner = f"floor:{name}"
                    stem = f"floor-{name}.{dataset_name}.{protocol}.{pairing}.{classes}"
                    report.save_predictions(out / f"{stem}.npz")
                    report.save(out / f"{stem}.json", **_method(name, learner, report))
                    yield Run(name, learner.title, report)


def _method(name: str, learner: Any, report: Report) -> dict[str, Any]:
    import torch

    protocol = report.protocol
    command = [
        "metaevents", "evaluate", f"floor:{name}", "--archive", f"{protocol.dataset}.h5", "--protocol", protocol.name,
        "--pairing", protocol.pairing, "--classes", protocol.classes, "--out", "entry.json",
    ]  # fmt: skip
    return {
        "name": learner.title,
        "authors": ["The metaevents authors"],
        "code": "metaevents",
        "commit": __version__,
        "command": shlex.join(command),
        "other_data": "none",
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}; torch on {torch.get_num_threads()} thread(s)",
        "notes": " ".join((learner.__doc__ or "").split("\n\n")[0].split()),
    }


def markdown(runs: Sequence[Run]) -> str:
    """Tables of floors: for each protocol and class split, both pairings side by side."""
    found = {(r.name, r.report.protocol.name, r.report.protocol.classes, r.report.protocol.pairing): r for r in runs}
    parts = []
    for protocol in dict.fromkeys(r.report.protocol.name for r in runs):
        for classes in dict.fromkeys(r.report.protocol.classes for r in runs):
            lines = [
                f"### {protocol}, classes {classes}",
                "",
                "| Floor | pairing `all` | pairing `published` | difference |",
                "|:--|--:|--:|--:|",
            ]
            for name, title in dict.fromkeys((r.name, r.title) for r in runs):
                honest, published = (found[name, protocol, classes, pairing].report for pairing in PAIRINGS)
                difference = 100 * (published.accuracy - honest.accuracy)
                lines.append(f"| {title} | {_cell(honest)} | {_cell(published)} | {difference:+.1f} |")
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _cell(report: Report) -> str:
    low, high = (100 * end for end in report.bootstrap95)
    return f"{100 * report.accuracy:.1f} ± {100 * report.ci95:.1f} ({low:.1f} to {high:.1f})"


def document(runs: Sequence[Run], command: str) -> str:
    """What `--markdown` writes: the tables, what they are over, and the command that makes them."""
    import torch

    report = runs[0].report
    archive = report.archive
    simulated = " SIMULATED recordings: these are no results on real data." if archive["simulated"] else ""
    return (
        f"# Floors\n\nAccuracy in %, mean ± half of the 95 % confidence interval over {report.protocol.episodes} episodes (in "
        "brackets the 95 % interval of a bootstrap over the query recordings).\n\n"
        f"Dataset {report.protocol.dataset}, recordings `{archive['source']}` ({archive['recordings']:,}), fingerprint "
        f"`{archive['fingerprint']}`.{simulated} Made on {torch.get_num_threads()} thread(s) by\n\n"
        f"```sh\n{command}\n```\n\n{markdown(runs)}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m metaevents.benchmark.floors --archive FILE --out DIR [--markdown FILE] [--protocol NAME ...]`."""
    import argparse

    from metaevents.command import run

    program = "python -m metaevents.benchmark.floors"
    parser = argparse.ArgumentParser(
        prog=program, description="Run every floor with both pairings and both class splits."
    )
    parser.add_argument("--archive", type=Path, required=True, metavar="FILE", help="an archive (.h5)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for entries and prediction files"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here, else to standard output")
    parser.add_argument(
        "--protocol", dest="protocols", nargs="+", default=list(_PROTOCOLS), metavar="NAME", help="which protocols"
    )
    args = parser.parse_args(arguments)

    def work() -> None:
        runs = list(run_all(args.archive, args.protocols, args.out))
        options = {"--archive": args.archive.name, "--out": args.out, "--markdown": args.markdown}
        words = [word for option, value in options.items() if value is not None for word in (option, str(value))]
        text = document(runs, shlex.join([*program.split(), *words, "--protocol", *args.protocols]))
        if args.markdown:
            args.markdown.parent.mkdir(parents=True, exist_ok=True)
            args.markdown.write_text(text, "utf-8")
        else:
            print(text)

    return run(program, work)


if __name__ == "__main__":
    import sys

    sys.exit(main())
