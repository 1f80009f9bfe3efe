"""Rules files of a user's own datasets."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.gestures import RULES, write_rules

from metaevents.class_splits import find_classes
from metaevents.custom_rules import (
    MAX_RULES_BYTES,
    CustomRules,
    built_in_rules,
    parse_rules,
    read_rules,
)
from metaevents.errors import MissingError, UsageError


def test_a_file_gives_the_rules_that_compose_makes(tmp_path: Path) -> None:
    read = read_rules(write_rules(tmp_path / "a.json", crop=[8, 16], min_gap=3, protocol=None))
    rules = read.dataset_rules([f"g{i}" for i in range(10)], (16, 16))
    assert rules.splits["published"]["val"] == (("g3",), ("g4",))
    assert rules.composition.frame_shape == (10, 2, 8, 4)
    assert (rules.min_gap, rules.partition, rules.title) == (3, "by-class", "Gestures")
    assert (rules.protocol, read.license) == ("5way-1shot", "")
    again = parse_rules(read.to_json(rules), "a copy")
    assert again.dataset_rules([f"g{i}" for i in range(10)], (16, 16)) == rules


def test_title_and_protocol_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    labels, size = [f"g{i}" for i in range(10)], (16, 16)
    made = [
        read_rules(write_rules(tmp_path / "a.json", **changes)).dataset_rules(labels, size)
        for changes in ({}, {"title": "Other", "protocol": "3way-1shot"}, {"bins": 20})
    ]
    first, second, third = (rules.fingerprint("0" * 64) for rules in made)
    assert first == second != third


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "name is missing, expected a name"),
        ({"arity": None}, "arity is missing"),
        ({"splits": None}, "splits is missing"),
        ({"arity": 0}, "arity is 0, expected the number of recordings"),
        ({"arity": "1"}, 'arity is "1"'),
        ({"arity": True}, "arity is true"),
        ({"sides": 2}, "sides is unknown; the document has format, format_version, name"),
        ({"format": "metaevents-entry"}, 'format is "metaevents-entry"'),
        ({"format_version": 2}, "format_version is 2, expected 1"),
        ({"name": "../up"}, "name is"),
        ({"name": "a/b"}, "name is"),
        ({"name": ".hidden"}, "name is"),
        ({"name": "a\nb"}, "name is"),
        ({"name": "double-nmnist"}, "is the name of a built-in dataset"),
        ({"title": "a\u202eb"}, "title is"),
        ({"source": {"kind": "pickle"}}, "source.kind is .* expected n-mnist, asl-dvs"),
        ({"source": {"kind": "tonic:os.system"}}, "source.kind is"),
        ({"source": {}}, "source.kind is missing"),
        ({"source": {"kind": "folders", "path": "/"}}, "source.path is unknown"),
        ({"source": {"kind": "folders", "sensor_size": [0, 4]}}, r"source.sensor_size\[0\] is 0"),
        ({"source": {"kind": "folders", "labels": ["a", "a"]}}, "source.labels is"),
        ({"crop": [16]}, "crop is"),
        ({"bins": 10**9}, "bins is 1000000000"),
        ({"partition": "thirds"}, "partition is .*by-class"),
        ({"splits": "random"}, 'splits is "random", expected "disjoint"'),
        ({"splits": []}, "splits is"),
        ({"splits": {}}, "splits is"),
        ({"splits": {"train": []}}, "splits.train is"),
        ({"splits": {"dev": ["g0"]}}, "splits.dev is unknown"),
        ({"splits": {"train": [1]}}, r"splits.train\[0\] is 1, expected a class"),
        ({"protocol": "5-way"}, "protocol is .* such as 5way-1shot"),
        ({"protocol": {"ways": 5}}, "protocol is"),
    ],
)
def test_faults_are_one_sentence_with_the_name_of_the_file(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_rules(tmp_path / "rules.json", **changes)
    with pytest.raises(UsageError, match=message) as caught:
        read_rules(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        "null",
        "NaN",
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        '"\\ud800"',
        "1" * 5000,
        json.dumps({**RULES, "splits": {"train": ["g0"] * 30_000}}),
        json.dumps({**RULES, "splits": {"train": [["g"] * 20_000]}}),
        json.dumps({**RULES, "x": [[0] * 1000] * 1000}),
    ],
    ids=lambda text: text[:12],
)
def test_files_of_strangers_are_refused_in_bounded_time(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.json"
    path.write_text(text, "utf-8")
    start = time.perf_counter()
    with pytest.raises(UsageError) as caught:
        read_rules(path)
    assert str(path) in str(caught.value)
    assert time.perf_counter() - start < 60


def test_what_is_no_small_text_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="give a file, or one of cifar10-dvs, n-caltech101"):
        read_rules(tmp_path / "none.json")
    with pytest.raises(UsageError, match="is a folder"):
        read_rules(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not in UTF-8"):
        read_rules(tmp_path / "binary")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_RULES_BYTES + 1)
    with pytest.raises(UsageError, match="may have at most 8,000,000"):
        read_rules(tmp_path / "large")


def test_more_classes_than_an_archive_keeps_must_be_dealt() -> None:
    labels = [str(i) for i in range(150)]
    pairs = [(a, b) for a in labels for b in labels]
    rules = CustomRules("many", 2, {"train": pairs})
    with pytest.raises(UsageError, match=r"splits lists 22,500 classes .*splits='disjoint'"):
        rules.to_json(rules.dataset_rules(labels, (4, 4)))
    dealt = CustomRules("many", 2, "disjoint")
    assert len(dealt.to_json(dealt.dataset_rules(labels, (4, 4)))) < 1000


@pytest.mark.parametrize("name", built_in_rules())
def test_rules_of_the_release_have_disjoint_classes(name: str) -> None:
    rules = read_rules(name)
    assert rules.source is not None
    assert rules.source.labels is not None
    splits = rules.dataset_rules(rules.source.labels, (240, 180)).splits["published"]
    classes = [components for split in splits.values() for components in split]
    assert len(set(classes)) == len(classes) == len(rules.source.labels)
    assert len(splits["test"]) >= 5
    assert min(map(len, splits.values())) >= 2
    assert rules.partition == "by-class"


def test_n_caltech101_has_the_deal_of_its_labels() -> None:
    rules = read_rules("n-caltech101")
    assert rules.source is not None
    labels = rules.source.labels or ()
    splits = rules.dataset_rules(labels, (240, 180)).splits["published"]
    assert splits == find_classes("disjoint", labels, 1)
    assert [len(classes) for classes in splits.values()] == [64, 16, 20]
