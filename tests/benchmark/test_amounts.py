"""Large numbers and costs in words."""

from __future__ import annotations

import pytest

from metaevents.benchmark.amounts import (
    amount,
    describe_costs,
    describe_operations,
    operations,
    power_of_ten,
    size,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (7, "7"),
        (12.34, "12.3"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (1e15, "1.00 P"),
        (2.5e18, "2500 P"),
    ],
)
def test_numbers_have_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert amount(value) == text


def test_bytes_and_powers_of_ten() -> None:
    assert (size(512), size(3_310_000)) == ("512 B", "3.31 MB")
    assert [power_of_ten(n) for n in (0, 2, 3, 7, 9)] == ["1", "100", "1 k", "10 M", "1 G"]


def test_unknown_costs_are_left_out() -> None:
    assert describe_costs({}, None) == ""
    assert operations({"effective_macs": None}) is None
    assert operations({"effective_macs": 0, "effective_acs": None}) == 0
    assert describe_operations({"effective_macs": 0.0}) == "0"
    assert describe_operations({"effective_macs": 2e6, "effective_acs": 0}) == "2.00 M MACs"
    assert describe_costs({"dense_operations": 10, "footprint_bytes": 4}, 3) == (
        "3 spikes; 10 dense operations; 4 B"
    )
