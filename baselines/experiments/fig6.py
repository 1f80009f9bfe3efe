"""Figure 6: the shots that transfer learning needs to reach what SNN-MAML learns from one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from baselines.experiments.accuracy import (
    Classifier,
    EpisodeAccuracies,
    Row,
    Variants,
    fits,
    fitting_queries,
)
from baselines.experiments.plots import curves
from baselines.experiments.runs import Trained
from baselines.experiments.study import Experiment, Study
from baselines.transfer import Transfer
from metaevents.episodes import Episode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_SHOTS, _FEW_QUERIES = 20, 4

_MAML = "MAML, one shot"


class _OnFeatures(Transfer):
    # Learns from features that are computed already: those of a frozen body serve every number of shots.
    def features(self, x: Tensor) -> Tensor:
        return x


def by_shots(run: Trained, most: int, maml: Trained | None) -> Variants:
    """Transfer learning from the first 1, 2 ... `most` shots of every class, and MAML from the first."""
    body = run.transfer
    learner = _OnFeatures(body.net, body.steps, body.rate, body.decay)

    def variants(episode: Episode) -> Iterator[tuple[str, Classifier]]:
        ways = len(episode.classes)
        support, query, labels = (
            body.features(episode.support_x),
            body.features(episode.query_x),
            episode.support_y,
        )
        for shots in range(1, most + 1):
            classifier = learner.adapt(
                _first(support, ways, shots), _first(labels, ways, shots), ways
            )
            yield str(shots), lambda _, classifier=classifier: classifier(query)  # type: ignore[misc]
        if maml is not None:
            one, of = _first(episode.support_x, ways, 1), _first(labels, ways, 1)
            yield _MAML, maml.learner.adapt(one, of, ways)

    return variants


def _first(x: Tensor, ways: int, shots: int) -> Tensor:
    # An episode's support stands class by class.
    return x.view(ways, -1, *x.shape[1:])[:, :shots].flatten(0, 1)


def _rows(study: Study) -> list[Row]:
    run, rows = study.run("snn-transfer"), []
    for ways in sorted({min(20, len(study.test)), 5}, reverse=True):
        maml = study.run("snn-maml") if ways == 5 else study.find("snn-maml", ways=ways)
        if maml is None:
            study.note(f"{ways}-way SNN-MAML was not run: no {ways}-way run was given.")
        most, queries = _fitting(study, ways)
        runs = [run, *([maml] if maml else [])]
        scores = study.measure(
            f"shots to {most}",
            by_shots(run, most, maml),
            runs,
            ways=ways,
            shots=most,
            queries=queries,
        )
        one = scores.pop(_MAML, None)
        rows += [
            _row("transfer", ways, int(shots), queries, score) for shots, score in scores.items()
        ]
        if one is not None:
            rows.append(_row("SNN-MAML", ways, 1, queries, one))
    study.note(
        "Shots are nested: fewer shots are the first of an episode's support, so that all see the same queries."
    )
    target = next(row for row in rows if row["method"] == "SNN-MAML" and row["ways"] == 5)
    for ways in sorted({row["ways"] for row in rows}, reverse=True):
        reaching = [
            row["shots"] for row in rows
            if (row["method"], row["ways"]) == ("transfer", ways) and row["accuracy"] >= target["accuracy"]
        ]  # fmt: skip
        needed = (
            str(min(reaching))
            if reaching
            else f"more than {max(row['shots'] for row in rows if row['ways'] == ways)}"
        )
        rows.append(
            {
                "panel": "shots to reach 5-way 1-shot SNN-MAML",
                "method": "transfer",
                "ways": ways,
                "shots needed": needed,
            }
        )
    return rows


def _row(method: str, ways: int, shots: int, queries: int, score: EpisodeAccuracies) -> Row:
    row = {"panel": "error", "method": method, "ways": ways, "shots": shots, "queries": queries}
    return {**row, "error": 1 - score.accuracy, **score.row()}


def _fitting(study: Study, ways: int) -> tuple[int, int]:
    """Shots and queries a class, as many as the archive's recordings allow."""
    queries = study.budget.queries
    if not fits(study.test, ways, _MOST_SHOTS, queries):
        queries = min(queries, _FEW_QUERIES)
    shots = next((n for n in range(_MOST_SHOTS, 0, -1) if fits(study.test, ways, n, queries)), 1)
    if shots < _MOST_SHOTS:
        study.note(
            f"{ways}-way: the archive has recordings for {shots} shots beside {queries} queries a class, not for {_MOST_SHOTS}."
        )
    return shots, fitting_queries(study.test, ways, shots, queries)


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    points = [row for row in rows if row["panel"] == "error"]
    curves(
        axes,
        [{**row, "of": f"{row['ways']}-way"} for row in points if row["method"] == "transfer"],
        "shots",
        "error",
        ["method", "of"],
    )
    for row in points:
        if row["method"] == "SNN-MAML":
            axes.axhline(
                row["error"],
                linestyle="--",
                color="black" if row["ways"] == 5 else "gray",
                label=f"SNN-MAML, {row['ways']}-way 1-shot",
            )
    axes.legend(fontsize="small")


FIG6 = Experiment(
    name="fig6",
    title="Transfer learning: error against shots",
    rows=_rows,
    plot=_plot,
    claim="The paper: transfer learning needs 9 to 10 shots to reach one-shot SNN-MAML (20-way transfer, 5-way MAML).",
    published=(
        {
            "panel": "shots to reach 5-way 1-shot SNN-MAML",
            "method": "transfer",
            "ways": 20,
            "published": "9 to 10",
        },
    ),
    quick={"episodes": 60},
)
