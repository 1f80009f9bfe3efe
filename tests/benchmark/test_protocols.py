"""The table of protocols, the episodes that follow from it, and their published digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.torchrun import python

import metaevents as me
from metaevents.benchmark import episode_digests
from metaevents.benchmark import protocols as table
from metaevents.benchmark.episode_digests import published_digest
from metaevents.benchmark.protocols import Protocol, bind, episode_list
from metaevents.errors import UsageError

SAMPLE_FINGERPRINT = "f4fbbcd28b9529c8e0d5055940edccff0f5c403b8940c8159d51b3897dcc99b1"


def test_every_dataset_has_every_setting_pairing_and_class_split_that_has_the_classes() -> None:
    for dataset in ("double-nmnist", "double-asl-dvs"):
        found = {(p.name, p.pairing, p.classes) for p in table.protocols() if p.dataset == dataset}
        expected = {
            (name, pairing, classes)
            for name in table.names()
            for pairing in ("all", "published")
            for classes in ("published", "novel-components")
            if not (name.startswith("20way") and classes == "novel-components")
        }
        assert found == expected


def test_numbers_are_those_of_the_names() -> None:
    for protocol in table.protocols():
        ways, shots = (
            int(word.rstrip("wayshot")) for word in protocol.name.removeprefix("sample-").split("-")
        )
        assert (protocol.ways, protocol.shots) == (ways, shots)
        assert protocol.queries == (10 if protocol.name.startswith("sample-") else 15)
        assert (protocol.episodes, protocol.split) == (600, "test")
        assert protocol.deviations() == []


def test_other_numbers_are_named_as_deviations(digits: me.DoubleNMNIST) -> None:
    protocol = bind("5way-5shot", digits, episodes=20, queries=3)
    assert (protocol.episodes, protocol.queries) == (20, 3)
    assert protocol.deviations() == ["queries=3 instead of 15", "episodes=20 instead of 600"]


@pytest.fixture(scope="module")
def triple(digits_root: Path) -> me.ComposedDataset:
    """A composition of the user's own, which has no row in the table of protocols."""
    return me.compose(digits_root / "double-nmnist.h5", 1, split="test", splits="disjoint")


@pytest.mark.parametrize(
    ("name", "ways", "shots", "queries"),
    [("5way-1shot", 5, 1, 15), ("7way-3shot", 7, 3, 15), ("sample-2way-4shot", 2, 4, 10)],
)
def test_a_dataset_of_ones_own_has_protocols_for_all_numbers(
    triple: me.ComposedDataset, name: str, ways: int, shots: int, queries: int
) -> None:
    protocol = bind(name, triple)
    assert (protocol.ways, protocol.shots, protocol.queries) == (ways, shots, queries)
    assert (protocol.episodes, protocol.seed, protocol.version) == (600, 0, 1)
    assert protocol.deviations() == []
    assert Protocol.from_dict(protocol.to_dict()).deviations() == []
    assert bind(name, triple, episodes=3).deviations() == ["episodes=3 instead of 600"]


def test_protocols_of_ones_own_dataset_are_for_its_one_class_split(
    triple: me.ComposedDataset, digits: me.DoubleNMNIST
) -> None:
    for name in ("0way-1shot", "5way-01shot", "five", "sample-sample-5way-1shot", "5way-1shot "):
        with pytest.raises(UsageError, match="or <N>way-<K>shot with other numbers"):
            bind(name, triple)
    with pytest.raises(UsageError, match="no protocol '7way-3shot'; choose one of 5way-1shot"):
        bind("7way-3shot", digits)
    fields = bind("5way-1shot", triple).to_dict()
    assert Protocol.from_dict({**fields, "pairing": "published"}).deviations() == [
        "pairing=published instead of all"
    ]
    with pytest.raises(UsageError, match="upgrade metaevents"):
        Protocol.from_dict({**fields, "version": 2}).deviations()


def test_a_protocol_that_does_not_fit_names_the_smaller_one(triple: me.ComposedDataset) -> None:
    least = min(min(triple.n_recordings(c)) for c in triple.classes)
    shots = least - 12  # with 10 queries, but not with 15
    problem = table.fit_problem(triple, bind(f"2way-{shots}shot", triple))
    assert problem is not None
    assert f"protocol 'sample-2way-{shots}shot' (10 queries per class) fits" in problem
    assert table.fit_problem(triple, bind(f"sample-2way-{shots}shot", triple)) is None


def test_20_ways_on_novel_components_are_no_protocol(digits_root: Path) -> None:
    novel = me.DoubleNMNIST(digits_root, split="test", classes="novel-components")
    assert bind("20way-1shot", novel).deviations() == [
        "classes=novel-components instead of published"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "6way"}, "no protocol '6way'"),
        ({"version": 9}, "5way-1shot in version 9: this release knows 1; upgrade metaevents"),
    ],
)
def test_unknown_protocols_and_versions_are_refused(
    digits: me.DoubleNMNIST, change: dict[str, Any], message: str
) -> None:
    fields = {**bind("5way-1shot", digits).to_dict(), **change}
    with pytest.raises(UsageError, match=message):
        Protocol.from_dict(fields).deviations()


@pytest.mark.parametrize(
    "change",
    [{"ways": 0}, {"ways": "5"}, {"seed": -1}, {"episodes": True}, {"name": 3}, {"shots": 1.0}],
)
def test_unfit_fields_are_refused(digits: me.DoubleNMNIST, change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"protocol field {next(iter(change))}="):
        Protocol.from_dict({**bind("5way-1shot", digits).to_dict(), **change})


def test_missing_and_unknown_fields_are_refused(digits: me.DoubleNMNIST) -> None:
    fields = bind("5way-1shot", digits).to_dict()
    assert Protocol.from_dict(fields).to_dict() == fields
    for wrong in ({**fields, "extra": 1}, {k: v for k, v in fields.items() if k != "ways"}):
        with pytest.raises(UsageError, match="a protocol has the fields"):
            Protocol.from_dict(wrong)


@pytest.mark.parametrize(
    "numbers",
    [{"episodes": 0}, {"queries": 0}, {"episodes": -3}, {"episodes": 2.5}, {"queries": True}],
)
def test_numbers_that_are_no_whole_numbers_of_at_least_one_are_refused(
    digits: me.DoubleNMNIST, numbers: dict[str, int]
) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(numbers))}=.* of at least 1"):
        bind("5way-1shot", digits, **numbers)


def test_numbers_of_numpy_give_the_same_protocol(digits: me.DoubleNMNIST) -> None:
    bound = bind("5way-1shot", digits, episodes=np.int64(20), queries=np.int32(3))
    assert bound == bind("5way-1shot", digits, episodes=20, queries=3)
    assert Protocol.from_dict(bound.to_dict()) == bound


@pytest.mark.parametrize("pairing", ["all", "published"])
def test_the_episode_list_is_that_of_the_loader(digits_root: Path, pairing: str) -> None:
    ds = me.DoubleNMNIST(digits_root, split="test", pairing=pairing)
    episodes = episode_list(ds, bind("sample-5way-5shot", ds, episodes=8))
    digest = hashlib.sha256()
    loader = me.EpisodeLoader(ds, 5, 5, 10, episodes=8, seed=0, representation="sum")
    for index, ep in enumerate(loader):
        digest.update(bytes.fromhex(ep.digest()))
        np.testing.assert_array_equal(episodes.labels[index], ep.query_y)
        assert tuple(ds.classes[c] for c in episodes.classes[index]) == ep.classes
        assert ds.name_samples(episodes.queries[index]) == ep.query_ids
    assert episodes.digest == digest.hexdigest()


def test_an_episode_list_is_refused_for_another_dataset(
    digits_root: Path, digits: me.DoubleNMNIST
) -> None:
    val = me.DoubleNMNIST(digits_root, split="val")
    with pytest.raises(
        UsageError,
        match=r"drawn from double-nmnist, all, published, test, the dataset given is .*val",
    ):
        episode_list(val, bind("sample-5way-1shot", digits))


def test_the_published_digests_of_the_sample_are_what_this_code_draws(sample_root: Path) -> None:
    listed = 0
    for protocol in table.protocols():
        published = published_digest(SAMPLE_FINGERPRINT, protocol)
        if protocol.dataset != "double-nmnist" or published is None:
            continue
        ds = me.DoubleNMNIST(
            sample_root, split="test", pairing=protocol.pairing, classes=protocol.classes
        )
        assert ds.fingerprint == SAMPLE_FINGERPRINT
        assert episode_list(ds, protocol).digest == published
        listed += 1
    assert listed == 14  # 15 queries fit the sample with the published pairing alone


def test_the_command_writes_digests_that_evaluate_compares_with(
    digits_root: Path, digits: me.DoubleNMNIST, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = bind("sample-5way-1shot", digits)
    assert published_digest(digits.fingerprint, protocol) is None
    out = tmp_path / "episode-digests.json"
    done = python(
        "-m", "metaevents.benchmark.episode_digests", digits_root / "double-nmnist.h5",
        "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (archive,) = json.loads(out.read_text("utf-8"))["archives"].values()
    assert archive["recordings"] == 440
    (stated,) = [
        row["digest"] for row in archive["episodes"] if row["protocol"] == protocol.to_dict()
    ]
    assert stated == episode_list(digits, protocol).digest

    published = {(digits.fingerprint, protocol): "0" * 64}
    monkeypatch.setattr(episode_digests, "_published_digests", lambda: published)
    report = me.evaluate(
        lambda x, y, ways: lambda q: np.zeros((len(q), ways)),
        digits,
        "sample-5way-1shot",
        progress=False,
    )
    assert report.deviations == [f"episodes_digest={stated} instead of {'0' * 64}"]
    assert not report.is_protocol
