"""Results over the deals of `novel-components`: mean and deviation.

Which labels a deal gives to test decides much of its accuracy, so one deal says little about a
method. `over_deals` summarizes the reports of one method. `metaevents leaderboard` and the report
of the trivial baselines use the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metaevents.benchmark.statistics import repeated
from metaevents.component_deals import DEALS, deal_number
from metaevents.errors import UsageError

if TYPE_CHECKING:
    from metaevents.benchmark.report import Report


@dataclass(frozen=True)
class OverDeals:
    """The accuracies of one method over deals.

    Attributes:
        accuracies: Number of a deal -> accuracy, 0 to 1, in order of the numbers.
    """

    accuracies: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Mean over the deals."""
        return sum(self.accuracies.values()) / len(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the deals (n - 1 in the denominator); None for one deal."""
        if len(self.accuracies) < 2:
            return None
        return float(repeated(list(self.accuracies.values()))["deviation"])

    def __str__(self) -> str:
        deviation = "" if self.deviation is None else f" +- {self.deviation:.2%} between deals"
        deals = ", ".join(f"{number}: {value:.2%}" for number, value in self.accuracies.items())
        return f"{self.mean:.2%}{deviation}, {len(self.accuracies)} of {len(DEALS)} deals ({deals})"


def over_deals(reports: Sequence[Report]) -> OverDeals:
    """Return the accuracies of one method over deals.

    Args:
        reports: One report per deal, under the same protocol and on the same archive.

    Returns:
        The accuracies.

    Raises:
        UsageError: There is no report, a class split is no deal or there twice, or the reports
            differ in protocol or archive.
    """
    accuracies: dict[int, float] = {}
    for report in reports:
        number = deal_number(report.protocol.classes)
        if number is None:
            raise UsageError(
                f"a report has classes={report.protocol.classes!r}, which is no deal; give reports "
                f"with {DEALS[0]} to {DEALS[-1]}"
            )
        if number in accuracies:
            raise UsageError(
                f"two reports have classes={report.protocol.classes!r}; give one report per deal"
            )
        accuracies[number] = report.accuracy
    settings = {
        (replace(report.protocol, classes=""), report.archive["fingerprint"]) for report in reports
    }
    if len(settings) != 1:
        raise UsageError(
            f"got {len(reports)} reports of {len(settings)} protocols and archives; give the "
            "reports of one method under one protocol, on one archive"
        )
    return OverDeals(dict(sorted(accuracies.items())))
