"""The fixed rules of the built-in datasets: class splits, partitions, geometry, fingerprints."""

from __future__ import annotations

import hashlib
from itertools import product

import pytest

from metaevents.errors import ArchiveError, UsageError
from metaevents.sources import RecordingRef
from metaevents.sources.n_omniglot import ALPHABETS
from metaevents.specs import PARTITION_RULES, PARTITIONS, Composition, class_name, get_spec, specs

SIZES = {
    ("double-nmnist", "published"): (64, 16, 20),
    ("double-nmnist", "novel-components"): (16, 9, 9),
    ("double-asl-dvs", "published"): (369, 92, 115),
    ("double-asl-dvs", "novel-components"): (169, 25, 36),
    ("n-omniglot", "published"): (776, 188, 659),
}
# SHA-256 of the published class lists: one line per split, its names sorted and joined by blanks.
# Computed once from the lists of Sun 2019 (MultiDigitMNIST) and of the paper's authors.
PUBLISHED = {
    "double-nmnist": "efb87ea36c51a18d34cda1b6333913caaccf67f8e522ef2bb2891115fd47e678",
    "double-asl-dvs": "55e3eb3763a234a111eac913313a66fba524a0d7bfabfa70999bbac3b273d083",
}


def splits(name: str, classes: str) -> dict[str, list[str]]:
    rules = get_spec(name).rules(simulated=False)
    return {split: sorted(map(class_name, rules.splits[classes][split])) for split in PARTITIONS}


@pytest.mark.parametrize(("name", "classes"), SIZES)
def test_splits_have_the_published_sizes_and_share_no_class(name: str, classes: str) -> None:
    classes_of = splits(name, classes)
    assert tuple(len(classes_of[split]) for split in PARTITIONS) == SIZES[name, classes]
    assert len({c for split in classes_of.values() for c in split}) == sum(SIZES[name, classes])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_splits_cover_all_pairs_and_are_the_known_lists(name: str) -> None:
    classes_of = splits(name, "published")
    labels = get_spec(name).recordings["labels"]
    assert {c for split in classes_of.values() for c in split} == {
        a + b for a, b in product(labels, repeat=2)
    }
    text = "\n".join(" ".join(classes_of[split]) for split in PARTITIONS)
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_novel_components_share_no_component_between_splits(name: str) -> None:
    components = [set("".join(names)) for names in splits(name, "novel-components").values()]
    assert set.union(*components) == set(get_spec(name).recordings["labels"])
    assert sum(map(len, components)) == len(set.union(*components))


def test_n_omniglot_is_split_by_alphabet_and_tests_on_the_evaluation_part() -> None:
    names = splits("n-omniglot", "published")
    alphabets = {
        split: sorted({name.split("/")[0] for name in classes}) for split, classes in names.items()
    }
    assert alphabets["test"] == sorted(ALPHABETS["evaluation"])
    # The rule: the background alphabets in order of their SHA-256; the first six are val.
    ranked = sorted(
        ALPHABETS["background"],
        key=lambda alphabet: hashlib.sha256(f"n-omniglot/1/{alphabet}".encode()).hexdigest(),
    )
    assert alphabets["val"] == sorted(ranked[:6])
    assert alphabets["train"] == sorted(ranked[6:])
    assert sum(map(len, names.values())) == 1_623  # whole alphabets


def test_every_digit_of_the_published_test_split_occurs_in_training_on_both_sides() -> None:
    # The reason for the second split.
    classes_of = splits("double-nmnist", "published")
    for side in (0, 1):
        assert {c[side] for c in classes_of["test"]} <= {c[side] for c in classes_of["train"]}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("double-nmnist", (100, 2, 16, 32)),
        ("double-asl-dvs", (100, 2, 30, 80)),
        ("n-omniglot", (120, 2, 25, 25)),
    ],
)
def test_frames_have_the_stated_shape(name: str, shape: tuple[int, ...]) -> None:
    spec = get_spec(name)
    assert spec.composition.frame_shape == spec.frame_shape == shape


def deal(rule: str, folder: str, files: int) -> dict[str, list[int]]:
    dealt: dict[str, list[int]] = {split: [] for split in PARTITIONS}
    for position in range(files):
        ref = RecordingRef("id", "0", folder, position, "")
        dealt[PARTITION_RULES[rule](ref, position, files)].append(position)
    return dealt


def test_nmnist_trains_on_train_and_deals_the_test_folder_in_two() -> None:
    assert deal("official-folders", "Train", 5) == {"train": [0, 1, 2, 3, 4], "val": [], "test": []}
    assert deal("official-folders", "Test", 5) == {"train": [], "val": [0, 2, 4], "test": [1, 3]}


def test_asl_dvs_is_cut_into_contiguous_blocks() -> None:
    dealt = deal("blocks-60-20-20", "", 4200)
    assert [len(dealt[split]) for split in PARTITIONS] == [2520, 840, 840]
    assert (dealt["train"][-1], dealt["val"][-1], dealt["test"][0]) == (2519, 3359, 3360)


def test_the_fingerprint_depends_on_all_that_decides_an_episode() -> None:
    real = get_spec("double-asl-dvs").rules(simulated=False)
    simulated = get_spec("double-asl-dvs").rules(simulated=True)
    assert (real.min_gap, simulated.min_gap) == (20, 0)
    prints = {
        rules.fingerprint(contents) for rules in (real, simulated) for contents in ("aa", "bb")
    }
    assert len(prints) == 4


def test_long_labels_are_joined_with_hyphens() -> None:
    assert class_name(("3", "5")) == "35"
    assert class_name(("wave", "clap")) == "wave-clap"


def test_unknown_names_and_versions_are_refused() -> None:
    assert list(specs()) == ["double-asl-dvs", "double-nmnist", "n-omniglot"]
    with pytest.raises(UsageError, match="choose one of double-asl-dvs, double-nmnist, n-omniglot"):
        get_spec("mnist")
    with pytest.raises(ArchiveError, match="protocol version 7: this release knows 1; upgrade"):
        get_spec("double-nmnist", 7)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, (32, 32), 2, 1000, 10), "arity=0 is out of range"),
        ((2, (32, 31), 2, 1000, 10), "cannot be divided by 2"),
    ],
)
def test_impossible_compositions_are_refused(numbers: tuple[object, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Composition(*numbers)  # type: ignore[arg-type]
