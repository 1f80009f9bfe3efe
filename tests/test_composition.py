"""Datasets of a user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.archives import edit_archive
from support.composed import PAIRS, busy_archive, in_all_splits
from support.recordings import random_events

import metaevents as me
from metaevents.building import verify_rules
from metaevents.datasets import archive_dataset
from metaevents.errors import ArchiveError, StorageError, UsageError
from metaevents.events import Events
from metaevents.show import show
from metaevents.sources import NMNIST, DatasetSource
from metaevents.sources.base import RecordingRef


def test_triple_nmnist_from_the_same_archive(nmnist_folder: Path, nmnist_root: Path) -> None:
    dataset = me.compose(
        nmnist_root / "double-nmnist.h5",
        arity=3,
        split="test",
        splits={"train": ["012"], "test": ["357", "335"]},
        crop=(32, 32),
        downsample=2,
    )
    assert dataset.classes == ("335", "357")
    assert dataset.frame_shape == (100, 2, 16, 48)
    assert dataset.n_recordings("357") == (12, 12, 12)
    double = me.DoubleNMNIST(nmnist_root, split="test", pairing="all")
    triple = dataset.frames("357", 4, 5, 6)
    for side, (digit, place) in enumerate(zip("357", (4, 5, 6), strict=True)):
        recording = int(double.pool(digit)[place])
        part = double.stack_frames([(recording, recording)])[0][..., :16]
        assert torch.equal(triple[..., 16 * side : 16 * side + 16], part)
    assert len(dataset.events("335", 0, 1, 2)) == int(dataset.frames("335", 0, 1, 2).sum())
    episode = me.EpisodeLoader(dataset, ways=2, shots=1, queries=3)[0]
    assert episode.query_x.shape == (6, 100, 2, 16, 48)
    with pytest.raises(UsageError, match="3 sides, got 2 indices"):
        dataset.frames("357", 0, 1)


def test_a_source_of_ones_own_is_archived_and_composed(tmp_path: Path) -> None:
    pairs = [(random_events(i, 40, 128, 128), i % 2) for i in range(40)]
    source = DatasetSource(
        pairs, sensor_size=(128, 128, 2), labels=("wave", "clap"), name="gestures"
    )
    options: dict[str, Any] = {
        "root": tmp_path,
        "downsample": 8,
        "window_us": 200_000,
        "bins": 20,
        "name": "double-gestures",
        "splits": in_all_splits(("wave", "clap")),
    }
    train = me.compose(source, split="train", **options)
    assert train.classes == ("clap-clap", "clap-wave", "wave-clap", "wave-wave")
    assert train.frame_shape == (20, 2, 16, 32)
    assert isinstance(train, me.ComposedDataset)
    assert (tmp_path / "double-gestures.h5").exists()
    test = me.compose(source, split="test", **options)
    assert not set(train.recording_ids(0)[0]) & set(test.recording_ids(0)[0])
    assert test.fingerprint == train.fingerprint
    assert me.EpisodeLoader(train, ways=4, shots=2, queries=3)[0].support_x.shape == (
        8,
        20,
        2,
        16,
        32,
    )
    reopened = me.compose(
        tmp_path / "double-gestures.h5", split="test", **{**options, "root": None}
    )
    assert reopened.fingerprint == test.fingerprint


def test_a_custom_partition_is_kept(nmnist_folder: Path, tmp_path: Path) -> None:
    dataset = me.compose(
        NMNIST(nmnist_folder),
        root=tmp_path,
        split="val",
        partition=lambda ref, i, n: "val" if i < 3 else "train",
        splits={"val": ["00"]},
    )
    assert dataset.n_recordings("00") == (6, 6)  # three from each official folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": {"train": ["0"]}}, "class '0' of the train split is not 2 of the labels"),
        ({"splits": {"train": ["00", "00"]}}, "names class '00' twice"),
        ({"splits": {"dev": ["00"]}}, "splits has the keys dev"),
        ({"arity": 0}, "arity=0 is out of range; give a whole number from 1 to"),
        ({"downsample": 5}, "cannot be divided by 5"),
        ({"window_us": 200_000}, "keeps 100000 us per recording"),
        ({"partition": "blocks-60-20-20"}, "which has its own"),
        ({"split": "dev"}, "split='dev'"),
    ],
)
def test_impossible_compositions_are_refused(
    nmnist_root: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError if "keeps" not in message else ArchiveError, match=message):
        me.compose(nmnist_root / "double-nmnist.h5", **{"splits": "disjoint", **options})


def test_recordings_need_a_root_and_a_known_rule(nmnist_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no root"):
        me.compose(NMNIST(nmnist_folder), splits="disjoint")
    with pytest.raises(UsageError, match="choose one of official-folders, blocks-60-20-20, by-cl"):
        me.compose(NMNIST(nmnist_folder), root=tmp_path, partition="thirds", splits="disjoint")


def test_another_source_under_the_same_name_is_refused(tmp_path: Path) -> None:
    path = busy_archive(tmp_path)
    other = DatasetSource(
        [(random_events(0, 5, 4, 4), "a")], sensor_size=(4, 4), labels="ab", name="other"
    )
    with pytest.raises(UsageError, match="holds other recordings"):
        me.compose(other, root=tmp_path, name=path.stem, splits=PAIRS)


class Listed:
    """A source of recordings of the labels x, y and z.

    Args:
        names: For each of the labels, a letter per recording; a capital one has no events.
        counts: Whether to count empty recordings as repairs.
    """

    labels, sensor_size, name = ("x", "y", "z"), (4, 4), "listed"

    def __init__(self, *names: str, counts: bool = True) -> None:
        self.names, self.counts, self.reads = names, counts, 0

    def recordings(self) -> list[RecordingRef]:
        return [
            RecordingRef(f"{label}/{name.lower()}", label, "", i, name)
            for label, names in zip(self.labels, self.names, strict=False)
            for i, name in enumerate(names)
        ]

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        self.reads += 1
        if str(ref.location).islower():
            return random_events(ref.number, 9, 4, 4), {}
        repairs = {"recordings_empty": 1} if self.counts else {}
        return random_events(0, 1, 4, 4)[:0], repairs


LISTED: dict[str, Any] = {"arity": 1, "splits": {"train": ["x"], "test": ["y"]}, "name": "listed"}


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("names", [("abcde", "abcde"), ("aBcde", "Abcde"), ("abc", "def", "GH")])
def test_an_archive_of_the_same_recordings_is_opened_again(
    tmp_path: Path, names: tuple[str, ...], counts: bool
) -> None:
    first = me.compose(Listed(*names, counts=counts), root=tmp_path, **LISTED)
    again = Listed(*names, counts=counts)
    assert me.compose(again, root=tmp_path, **LISTED).fingerprint == first.fingerprint
    assert again.reads == (2 if "GH" in names and not counts else 0)


@pytest.mark.parametrize(
    "names",
    [
        ("abcde", "abcd"),  # fewer
        ("abcde", "abcdef"),  # more
        ("abcde", "abcdE", "a"),  # of a label that had none
        ("abcde", "axcdE"),  # others
        ("abced", "abcde"),  # in another order
    ],
)
def test_an_archive_of_other_recordings_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    me.compose(Listed("abcde", "abcdE"), root=tmp_path, **LISTED)
    with pytest.raises(UsageError, match=r"holds other recordings \(9 of listed\); give another"):
        me.compose(Listed(*names), root=tmp_path, **LISTED)


def by_order(ref: RecordingRef, position: int, files: int) -> str:
    return "train" if position < 2 else "test"


def test_an_archive_of_another_partition_function_is_refused(tmp_path: Path) -> None:
    source = Listed("abcde", "abcde")
    first = me.compose(source, root=tmp_path, partition=by_order, **LISTED)
    again = me.compose(source, root=tmp_path, partition=by_order, **LISTED)
    assert again.fingerprint == first.fingerprint
    for other in (lambda ref, position, files: "train", "blocks-60-20-20", None):
        with pytest.raises(UsageError, match="was built with another partition of these record"):
            me.compose(source, root=tmp_path, partition=other, **LISTED)


def test_an_archive_of_another_license_is_refused(tmp_path: Path) -> None:
    source = Listed("abcde", "abcde")
    me.compose(source, root=tmp_path, license="CC0", **LISTED)
    me.compose(source, root=tmp_path, **LISTED)
    with pytest.raises(UsageError, match=r"license='MIT', but .* was built with 'CC0'; leave it"):
        me.compose(source, root=tmp_path, license="MIT", **LISTED)
    with pytest.raises(UsageError, match="license=3, but"):
        me.compose(source, root=tmp_path, license=3, **LISTED)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [[], {}, 3, None])
def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(UsageError, match=f"given {type(source).__name__} as source; give an"):
        me.compose(source)


def drawings(labels: int = 12, each: int = 20) -> DatasetSource:
    """Recordings of the labels d00, d01 ..."""
    names = [f"d{i:02}" for i in range(labels)]
    pairs = [
        (random_events(100 * label + i, 30, 32, 32), name)
        for label, name in enumerate(names)
        for i in range(each)
    ]
    return DatasetSource(pairs, sensor_size=(32, 32), labels=names, name="drawings")


@pytest.mark.parametrize("arity", [1, 2])
def test_splits_must_be_given(tmp_path: Path, arity: int) -> None:
    with pytest.raises(UsageError, match="every class would train and test; give splits='disjoint"):
        me.compose(drawings(3, 5), arity, root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_plain_few_shot_learning_on_any_labeled_recordings(tmp_path: Path) -> None:
    options: dict[str, Any] = {"root": tmp_path, "name": "drawings", "downsample": 4, "bins": 10}
    by_split = {
        split: me.compose(drawings(), 1, split=split, splits="disjoint", **options)
        for split in ("train", "val", "test")
    }
    assert [len(dataset) for dataset in by_split.values()] == [8, 2, 2]
    classes = [name for dataset in by_split.values() for name in dataset.classes]
    assert sorted(classes) == [f"d{i:02}" for i in range(12)]
    train = by_split["train"]
    assert train.n_recordings(0) == (12,)  # the first 60 % of 20
    (ids,) = train.recording_ids(0)
    assert ids[0].startswith(f"{train.classes[0]}/")
    frames = train.frames(0, 3)
    assert frames.shape == (10, 2, 8, 8)
    assert len(train.events(0, 3)) == int(frames.sum()) == int(train.stack_sums([(3,)]).sum()) > 0
    assert torch.equal(train.frames(0, left=3), frames)
    episode = me.EpisodeLoader(train, ways=3, shots=2, queries=4)[0]
    assert episode.support_x.shape == (6, 10, 2, 8, 8)
    assert not {*episode.support_ids} & {*episode.query_ids}
    assert len(train.as_classification(5, 0)) == 40
    with pytest.raises(UsageError, match=r"need 16 recordings, but 2 of 2 .*'d.*' has 4; queries"):
        me.EpisodeLoader(by_split["test"], ways=2, shots=1, queries=15)
    with pytest.raises(UsageError, match="has 1 side, got 2 indices; give one per side"):
        train.frames(0, left=0, right=1)


def test_by_class_gives_all_recordings_to_the_split_of_the_class(tmp_path: Path) -> None:
    options: dict[str, Any] = {"root": tmp_path, "splits": "disjoint", "partition": "by-class"}
    by_split = {
        split: me.compose(drawings(), 1, split=split, **options)
        for split in ("train", "val", "test")
    }
    seen: list[set[str]] = []
    for dataset in by_split.values():
        assert {dataset.n_recordings(c) for c in dataset.classes} == {(20,)}
        seen.append({id for c in dataset.classes for id in dataset.recording_ids(c)[0]})
    assert sum(map(len, seen)) == len(set.union(*seen)) == 240
    archive = by_split["test"].archive
    assert verify_rules(archive)[0] == (
        "partition: every recording is where partition 'by-class' puts it"
    )
    assert me.EpisodeLoader(by_split["test"], ways=2, shots=5, queries=15)[0].query_x.shape[0] == 30
    # The archive of another partition serves as well: its classes alone decide.
    blocks = me.compose(drawings(), 1, root=tmp_path, splits="disjoint", name="blocks")
    again = me.compose(blocks.archive, 1, splits="disjoint", partition="by-class", split="test")
    assert again.recording_ids(0) == by_split["test"].recording_ids(0)


def test_by_class_needs_classes_that_share_no_label(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'d0.' is in classes of .* splits='disjoint-labels'"):
        me.compose(drawings(), 2, root=tmp_path, splits="disjoint", partition="by-class")
    assert not list(tmp_path.iterdir())
    by_split = [
        me.compose(
            drawings(),
            2,
            root=tmp_path,
            split=split,
            splits="disjoint-labels",
            partition="by-class",
        )
        for split in ("train", "val", "test")
    ]
    assert [len(dataset) for dataset in by_split] == [64, 4, 4]
    ids = [
        {id for c in dataset.classes for side in dataset.recording_ids(c) for id in side}
        for dataset in by_split
    ]
    assert len(set.union(*ids)) == sum(map(len, ids))


def test_the_archive_keeps_the_rules(tmp_path: Path) -> None:
    made = me.compose(
        drawings(),
        1,
        root=tmp_path,
        name="mine",
        split="test",
        splits={"train": ["d00", "d01"], "test": ["d02", ("d03",)]},
        crop=(16, 32),
        downsample=2,
        bins=10,
        min_gap=2,
    )
    opened = me.load("mine", tmp_path, "test")
    assert opened.fingerprint == made.fingerprint == made.archive.fingerprint
    assert opened.rules == made.rules
    assert opened.classes == ("d02", "d03")
    assert archive_dataset(tmp_path) == "mine"
    assert me.load(archive_dataset(tmp_path / "mine.h5"), tmp_path / "mine.h5").split == "train"
    with pytest.raises(UsageError, match="split='val'; choose one of train, test"):
        me.load("mine", tmp_path, "val")
    with pytest.raises(UsageError, match="no dataset 'yours'; choose one of double-asl-dvs"):
        me.load("yours", tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"bins": 20}, "composition"),
        ({"splits": {"train": ["d00"]}}, "splits"),
        ({"min_gap": 3}, "min_gap"),
        ({"partition": "official-folders"}, "partition"),
        ({"partition": "by-class"}, "partition"),
    ],
)
def test_an_archive_of_other_rules_is_refused(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    options: dict[str, Any] = {"root": tmp_path, "name": "mine", "splits": "disjoint"}
    me.compose(drawings(3, 5), 1, **options)
    with pytest.raises(UsageError, match=rf"was built by other rules \({named}\)"):
        me.compose(drawings(3, 5), 1, **{**options, **changes})


def test_an_archive_without_rules_is_read_as_before(tmp_path: Path) -> None:
    path = busy_archive(tmp_path)
    edit_archive(path, "del file.attrs['rules']")
    archive = me.Archive(path)
    assert archive.rules is None
    assert "keeps no rules" in verify_rules(archive)[0]
    assert len(me.compose(path, splits=PAIRS)) == 4
    with pytest.raises(ArchiveError, match="keeps no rules of busy"):
        me.load("busy", path)
    assert show(path, tmp_path / "figure.png").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("file.attrs['rules'] = 'x'", "is not a rules file"),
        ("file.attrs['rules'] = '{}'", "name is missing"),
        (
            "file.attrs['rules'] = file.attrs['rules'].replace('busy', 'other')",
            "archive of busy with the rules of other",
        ),
        (
            "file.attrs['rules'] = file.attrs['rules'].replace('\"aa\"', '\"zz\"')"
            '.replace(\'["a", "a"]\', \'["z", "a"]\')',
            "is not 2 of the labels",
        ),
        ("file.attrs['rules'] = file.attrs['rules'].replace('[4, 4]', '[5, 4]')", "goes beyond"),
        (
            "file.attrs['rules'] = file.attrs['rules'].replace('\"bins\": 100', '\"bins\": 10')",
            "give .* build it again",
        ),
    ],
)
def test_rules_that_do_not_fit_their_archive_are_refused(
    tmp_path: Path, edit: str, message: str
) -> None:
    path = busy_archive(tmp_path, events=5)
    edit_archive(path, edit)
    with pytest.raises(ArchiveError, match=message):
        me.load("busy", path)
    with pytest.raises(ArchiveError, match=message):
        verify_rules(me.Archive(path))


@pytest.mark.parametrize("name", ["double-nmnist", "Double-NMNIST", "a" * 101, "a\nb"])
def test_names_of_built_in_datasets_and_odd_ones_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"name="):
        me.compose(drawings(3, 5), 1, root=tmp_path, name=name, splits="disjoint")


def test_the_classes_of_a_split_come_in_any_form(tmp_path: Path) -> None:
    lists = {"train": ["d00", "d01"], "test": [("d02",)]}
    generators = {
        "train": (name for name in lists["train"]),
        "test": (iter(labels) for labels in lists["test"]),
    }
    for splits in (lists, generators):
        dataset = me.compose(drawings(3, 5), 1, root=tmp_path, name="any", splits=splits)  # type: ignore[arg-type]
        assert dataset.classes == ("d00", "d01")


@pytest.mark.parametrize("root", ["file", "file/below"])
def test_a_root_that_can_be_no_folder_is_refused(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((UsageError, StorageError), match=r"is a file; give|give a folder that tak"):
        me.compose(drawings(3, 5), 1, root=tmp_path / root, splits="disjoint")
    with pytest.raises(UsageError, match=r"cannot be used as a path \(it is too long\); give"):
        me.compose(drawings(3, 5), 1, root="a" * 5000, splits="disjoint")


def test_a_name_fits_into_a_file_name_and_is_plain_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot name a file; give a text of at most 100 charact"):
        me.compose(drawings(3, 5), 1, root=tmp_path, name="\u6f22" * 100, splits="disjoint")
    longest = "\u6f22" * 80
    assert me.compose(drawings(3, 5), 1, root=tmp_path, name=longest, splits="disjoint")
    source = Listed("abcde", "abcde")
    source.name, source.labels = np.str_("listed"), tuple(map(np.str_, "xyz"))  # type: ignore[assignment]
    options: dict[str, Any] = {**LISTED, "name": np.str_("plain"), "license": np.str_("MIT")}
    dataset = me.compose(source, root=tmp_path, **options)
    assert (dataset.archive.dataset, dataset.archive.source) == ("plain", "listed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": ["train"]}, "choose one of train, val, test"),
        ({"partition": ["by-class"]}, "choose one of official-folders"),
        ({"crop": (10**5000, 4)}, "width of the crop=<int> is out of range"),
        ({"name": ["x"]}, r"name=\['x'\] cannot name a file"),
        ({"splits": {"train": np.array("d00")}}, r"the train split has the classes array\('d00'"),
        ({"splits": 10**5000}, "splits=<int> is no dictionary; give"),
        ({"splits": {"train": [10**5000]}}, "class <int> of the train split is not 1 of"),
    ],
)
def test_arguments_of_other_types_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        me.compose(
            drawings(3, 5), **{"arity": 1, "root": tmp_path, "splits": "disjoint", **options}
        )
