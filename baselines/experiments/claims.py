"""The paper's claims about its tables and figures, judged from the rows of a result.

Pure functions of rows, so that stored results can be judged as well as new ones. The rule is that
of `baselines.experiments.verdicts`. Claims about entries of the leaderboard are left to
`baselines.reproduction_card`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from types import MappingProxyType

from baselines.experiments.rows import Row
from baselines.experiments.verdicts import (
    CLAIMS,
    DOES_NOT_HOLD,
    HOLDS,
    MARGIN,
    NOT_RESOLVED,
    NOT_TESTED,
    TRAININGS,
    verdict,
    without_verdicts,
)

VERDICTS = (HOLDS, DOES_NOT_HOLD, NOT_RESOLVED, NOT_TESTED)
"""All verdicts."""

_PAPERS_SHOTS = (9, 10)
"""Shots that transfer learning needs, in the paper."""

_META_TRAINED = "meta-trained with the rule"


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Attributes:
        claim: The claim.
        verdict: One of `VERDICTS`.
        measured: The numbers that the verdict follows from.
        differs: What differs from the paper here, beside recipe and data.
        network: "cnn" or "snn" if the claim is about one of several networks of a result.
        apart: Whether the claim compares methods that were trained apart.
    """

    claim: str
    verdict: str
    measured: str = ""
    differs: str = ""
    network: str = ""
    apart: bool = False


def percent(accuracy: float, half_width: float | None = None) -> str:
    """Return an accuracy in percent: "96.1 ± 3.4 %"."""
    interval = "" if half_width is None else f" ± {100 * half_width:.1f}"
    return f"{100 * accuracy:.1f}{interval} %"


def points(difference: float, half_width: float | None = None) -> str:
    """Return a difference of accuracies in percentage points: "-0.8 ± 0.9 points"."""
    text = f"{100 * difference:+.1f}"
    text = "0.0" if text in ("+0.0", "-0.0") else text
    if half_width is None:
        return f"{text} points (interval not known)"
    return f"{text} ± {100 * half_width:.1f} points"


def judged(experiment: str, rows: Sequence[Row]) -> list[Judged]:
    """Return the claims about an experiment with their verdicts.

    Args:
        experiment: Name of the experiment.
        rows: Rows of its result.
    """
    own = [_of_row(row) for row in rows if row.get("panel") == CLAIMS]
    return own + (_JUDGES[experiment](without_verdicts(rows)) if experiment in _JUDGES else [])


def _of_row(row: Row) -> Judged:
    """Return the claim of a row that an experiment has judged itself."""
    about = str(row.get("network") or row.get("model") or "")
    measured = []
    if row.get("difference") is not None:
        measured.append(points(row["difference"], row.get("difference_ci95")))
    if row.get("over_trainings") is not None:
        measured.append(
            f"over trainings {points(row['over_trainings'], row['over_trainings_ci95'])}"
        )
    elif row.get("trainings") is not None:
        count = f"{row['trainings']} training{'s' * (row['trainings'] > 1)}"
        measured.append(f"{count} of each, {TRAININGS} are needed")
    claim = f"{about.upper()}: {row['claim']}" if about else str(row["claim"])
    return Judged(
        claim,
        str(row["verdict"]),
        "; ".join(measured),
        network=about.partition("-")[0],
        apart=row.get("over_trainings", row.get("trainings")) is not None,
    )


def _one_step(rows: Sequence[Row]) -> list[Judged]:
    """Judge figure 3: more inner steps than one gain nothing."""
    steps = {row["inner steps at test"]: row for row in rows if row["model"] == "snn-maml"}
    one, last = steps[1], steps[max(steps)]
    gain, half = last["accuracy"] - one["accuracy"], last.get("change_ci95")
    return [
        Judged(
            "One inner step is enough (figure 3)",
            verdict(-gain, half, -MARGIN),
            f"{percent(steps[0]['accuracy'])} before it, {percent(one['accuracy'])} after it, "
            f"{percent(last['accuracy'])} after {max(steps)}: {points(gain, half)}",
        )
    ]


def _frozen(rows: Sequence[Row]) -> list[Judged]:
    """Judge figure 4: the last layer alone learns as well as all layers."""
    layers = {row["frozen layers"]: row for row in rows if row["model"] == "snn-maml"}
    last = layers[max(layers)]
    return [
        Judged(
            "Layers can be frozen in the inner loop (figure 4)",
            verdict(last["change"], last.get("change_ci95"), -MARGIN),
            f"{percent(last['accuracy'])} with the last layer alone, "
            f"{percent(layers[0]['accuracy'])} with all: "
            f"{points(last['change'], last.get('change_ci95'))}",
        )
    ]


def _magnitudes(rows: Sequence[Row]) -> list[Judged]:
    """Judge table 3: inner updates are larger than all others. One training has no interval."""
    average = {row["loop"]: row["average"] for row in rows if row["thresholded"] == "no"}
    difference = average["inner"] - max(average["outer"], average["non-meta"])
    return [
        Judged(
            "Updates of the inner loop are larger than others (table 3)",
            verdict(difference, None),
            f"{average['inner']:.4f} on average; {average['outer']:.6f} in the outer loop, "
            f"{average['non-meta']:.6f} without meta-learning; of one training, so without an "
            "interval",
            "the inner learning rate is learned, the paper has 1; outer updates follow the "
            "schedule of their learning rate",
        )
    ]


def _small_updates(rows: Sequence[Row]) -> list[Judged]:
    """Judge figure 5 and Eq. 6: updates below 5 % of their range can be left out."""
    (row,) = (row for row in rows if row["panel"] == "accuracy" and row["threshold"] == 0.05)
    change = row["change"], row.get("change_ci95")
    return [
        Judged(
            "Updates below 5 % of their range can be left out (Eq. 6, figure 5)",
            verdict(*change, -MARGIN),
            points(*change),
        )
    ]


def _shots_needed(rows: Sequence[Row]) -> list[Judged]:
    """Judge figure 6: transfer learning needs 9 to 10 shots; also with equally many ways."""
    found = [row for row in rows if "shots needed" in row]
    judgments = []
    for row in found:
        text = f"{row['ways']}-way transfer: {row['shots needed']} shots"
        least, greatest = row.get("least"), row.get("greatest")
        outcome = NOT_RESOLVED
        if least is not None and greatest is not None:
            text += f", 95 % interval {least} to {greatest}"
            outcome = _within(str(least), str(greatest), *_PAPERS_SHOTS)
        else:
            text += ", interval not known"
        same = row["ways"] == 5
        judgments.append(
            Judged(
                "Transfer learning needs 9 to 10 shots to reach one-shot SNN-MAML (figure 6), "
                + ("both with 5 ways" if same else f"{row['ways']}-way against 5-way"),
                outcome,
                text,
                "the paper has 20 ways against 5" if same or row["ways"] != 20 else "",
            )
        )
    return judgments


def _within(least: str, greatest: str, low: int, high: int) -> str:
    """Return the verdict on the claim that a number of shots lies between two numbers.

    Args:
        least: Least number of the interval, as text; "more than N" where none was reached.
        greatest: Greatest number of the interval.
        low: Least number of the claim.
        high: Greatest number of the claim.
    """
    first, last = (
        int(text.removeprefix("more than ")) + 0.5 * text.startswith("more")
        for text in (least, greatest)
    )
    open_end = greatest.startswith("more")
    if first > high or (not open_end and last < low):
        return DOES_NOT_HOLD
    return HOLDS if first >= low and last <= high and not open_end else NOT_RESOLVED


def _precision(rows: Sequence[Row]) -> list[Judged]:
    """Judge quantization: few bits are enough, and meta-training with them helps."""

    def row(place: str, bits: int) -> Row:
        """Return the row with nearest rounding and the paper's range."""
        (found,) = (
            each
            for each in rows
            if (each["rounded weights"], each.get("bits")) == (place, bits)
            and (each["rounding"], str(each["scale"])) == ("nearest", "1")
        )
        return found

    judgments = []
    for bits in (8, 4):
        change = row("both", bits)["change"], row("both", bits).get("change_ci95")
        judgments.append(
            Judged(
                f"{bits}-bit weights are enough for fast learning",
                verdict(*change, -MARGIN),
                points(*change),
            )
        )
    gain = _gain(row("both, meta-trained", 4), row("both", 4))
    return [
        *judgments,
        Judged(
            "Meta-training with 4-bit weights raises accuracy", verdict(*gain), points(*gain),
            "a few more steps from trained weights, not from the beginning",
        ),
    ]  # fmt: skip


def _rules(rows: Sequence[Row]) -> list[Judged]:
    """Judge plasticity: meta-training through an approximate rule raises its accuracy."""
    rules = dict.fromkeys(row["rule"] for row in rows)
    judgments = []
    for rule in list(rules)[1:]:
        phases = {row[_META_TRAINED]: row for row in rows if row["rule"] == rule}
        gain = _gain(phases["yes"], phases["no"])
        judgments.append(
            Judged(
                f"Meta-training compensates for an approximate rule: {rule}",
                verdict(*gain),
                f"without it {points(phases['no']['change'], phases['no'].get('change_ci95'))} "
                f"against the gradient; meta-training gains {points(*gain)}",
                "a few more steps from trained weights, not from the beginning",
            )
        )
    return judgments


def _gain(after: Row, before: Row) -> tuple[float, float | None]:
    """Return the difference of two changes against one reference, and half of its 95 % interval.

    The half-widths are joined as those of independent changes. The common reference and the common
    episodes make both move together, so the interval is wider than it has to be.
    """
    halves = after.get("change_ci95"), before.get("change_ci95")
    known = [half for half in halves if half is not None]
    return after["change"] - before["change"], hypot(*known) if len(known) == 2 else None


_JUDGES: Mapping[str, Callable[[Sequence[Row]], list[Judged]]] = MappingProxyType(
    {
        "fig3": _one_step,
        "fig4": _frozen,
        "table3": _magnitudes,
        "fig5": _small_updates,
        "fig6": _shots_needed,
        "quantization": _precision,
        "plasticity": _rules,
    }
)
"""Name of an experiment -> the judge of its claims."""
