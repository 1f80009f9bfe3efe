"""The deals of novel components: fixed facts, drawn by a rule, outside the fingerprint."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

import pytest

import metaevents as me
from metaevents.component_deals import DEALS, N_DEALS, deal_number, draw_deal, further_deals
from metaevents.specs import CLASS_SPLITS, PARTITIONS, get_spec

DATASETS = ("double-nmnist", "double-asl-dvs")


def deals_of(name: str) -> list[dict[str, tuple[str, ...]]]:
    """All deals of a dataset as labels, from the class splits that `load` has."""
    class_splits = get_spec(name).rules(simulated=False).class_splits
    return [
        {
            split: tuple(sorted({label for c in class_splits[deal][split] for label in c}))
            for split in PARTITIONS
        }
        for deal in DEALS
    ]


def test_the_file_of_the_deals_never_changes() -> None:
    content = (files("metaevents") / "data" / "component-deals.json").read_bytes()
    assert (
        hashlib.sha256(content).hexdigest()
        == "39889cefc885b1e45ec5ef9dc7ac8356691afc4b45f96ed42bf34efac0c3a62c"
    )


@pytest.mark.parametrize("name", DATASETS)
def test_the_deals_follow_from_the_rule(name: str) -> None:
    first, *others = deals_of(name)
    for number, deal in enumerate(others, 2):
        assert deal == draw_deal(name, first, number)
    assert list(further_deals(name)) == list(DEALS[1:])


@pytest.mark.parametrize("name", DATASETS)
def test_ten_different_deals_divide_all_labels_in_the_sizes_of_the_first(name: str) -> None:
    deals = deals_of(name)
    assert len(deals) == N_DEALS == 10
    assert len({tuple(deal.values()) for deal in deals}) == 10
    labels = sorted(get_spec(name).recordings["labels"])
    for deal in deals:
        assert sorted(label for part in deal.values() for label in part) == labels
        assert [len(part) for part in deal.values()] == [len(part) for part in deals[0].values()]


def test_a_deal_is_a_class_split_like_the_others(nmnist_root: Path) -> None:
    assert ("published", *DEALS) == CLASS_SPLITS
    fingerprints = set()
    for deal in (DEALS[0], "novel-components-2", "novel-components-10"):
        labels: list[str] = []
        for split, n_classes in zip(PARTITIONS, (16, 9, 9), strict=True):
            dataset = me.load("double-nmnist", nmnist_root, split, classes=deal)
            assert (len(dataset), dataset.class_split) == (n_classes, deal)
            labels += dataset.labels
            fingerprints.add(dataset.fingerprint)
        assert sorted(labels) == list("0123456789")
    published = me.load("double-nmnist", nmnist_root)
    assert fingerprints == {published.fingerprint}  # archives do not depend on the deals


def test_deals_have_streams_of_episodes_of_their_own(nmnist_root: Path) -> None:
    drawn = {
        me.EpisodeLoader(
            me.DoubleNMNIST(nmnist_root, "test", classes=deal), queries=5, representation="sum"
        )[0].query_ids
        for deal in DEALS
    }
    assert len(drawn) == 10


def test_only_deals_have_numbers() -> None:
    assert [deal_number(deal) for deal in DEALS] == list(range(1, 11))
    assert deal_number("published") is None
    assert further_deals("n-omniglot") == {}
    assert get_spec("n-omniglot").class_splits == ("published",)
