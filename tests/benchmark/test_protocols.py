"""The table of protocols, the episodes that follow from it, and their published digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metaevents as me
from metaevents.benchmark import episode_digests
from metaevents.benchmark import protocols as table
from metaevents.benchmark.episode_digests import published_digest
from metaevents.benchmark.protocols import Protocol, bind, episode_list
from metaevents.component_deals import DEALS
from metaevents.errors import UsageError

SAMPLE_FINGERPRINT = "f4fbbcd28b9529c8e0d5055940edccff0f5c403b8940c8159d51b3897dcc99b1"


def test_every_dataset_has_every_setting_pairing_and_class_split_that_has_the_classes() -> None:
    for dataset in ("double-nmnist", "double-asl-dvs"):
        found = {(p.name, p.pairing, p.classes) for p in table.protocols() if p.dataset == dataset}
        expected = {
            (name, pairing, classes)
            for name in table.names()
            for pairing in ("all", "published")
            for classes in ("published", *DEALS)
            if not (name.startswith("20way") and classes in DEALS)
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
    ("name", "ways", "shots", "queries", "version"),
    [
        ("5way-1shot", 5, 1, 15, 1),
        ("7way-3shot", 7, 3, 15, 1),
        ("sample-2way-4shot", 2, 4, 10, 2),
        ("sample-2way-4shot-v1", 2, 4, 10, 1),
    ],
)
def test_a_dataset_of_ones_own_has_protocols_for_all_numbers(
    triple: me.ComposedDataset, name: str, ways: int, shots: int, queries: int, version: int
) -> None:
    protocol = bind(name, triple)
    assert (protocol.ways, protocol.shots, protocol.queries) == (ways, shots, queries)
    assert (protocol.episodes, protocol.seed, protocol.version) == (600, 0, version)
    assert protocol.division == ("episode" if version == 2 else "class")
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
    loader = me.EpisodeLoader(
        ds, 5, 5, 10, episodes=8, seed=0, representation="sum", division="episode"
    )
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
    for protocol in table.protocols(all_versions=True):
        published = published_digest(SAMPLE_FINGERPRINT, protocol)
        if protocol.dataset != "double-nmnist" or published is None:
            continue
        if protocol.classes in DEALS[1:-1]:  # the last one stands for them, to save time
            continue
        ds = me.DoubleNMNIST(
            sample_root, split="test", pairing=protocol.pairing, classes=protocol.classes
        )
        assert ds.fingerprint == SAMPLE_FINGERPRINT
        assert episode_list(ds, protocol).digest == published
        listed += 1
    # 14 of version 1, of which those with 15 queries have the published pairing alone; and two
    # numbers of shots with both pairings for version 2 and for the last deal.
    assert listed == 14 + 2 * 2 * 3 + 2


def test_version_1_of_the_sample_protocols_stays_what_it_was(sample_root: Path) -> None:
    # These digests never change.
    golden = {
        (
            "sample-5way-1shot-v1",
            "all",
        ): "fd7ff7fc4df0a0bb757231c83afecb53a6703e3e427716fed2f38f05c3bbc9ac",
        (
            "sample-5way-5shot-v1",
            "published",
        ): "962fdbb0c825e0bbb13b8a12f7e9f8ab3842534ef92497d8708c97e378ed83ee",
        (
            "sample-5way-1shot-v2",
            "all",
        ): "39093930450ff8d30503a38224f1bbb08d0e477c27bdb1dbf382f3d0567e2226",
        (
            "sample-5way-5shot-v2",
            "published",
        ): "f5636977e866fd1828a9b90fa59aed66562421896e063f2945a6406c62ff5d48",
    }
    for (name, pairing), digest in golden.items():
        ds = me.DoubleNMNIST(sample_root, split="test", pairing=pairing)
        assert episode_list(ds, bind(name, ds)).digest == digest


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("pairing", ["all", "published"])
def test_a_name_stands_for_the_newest_version_and_can_say_another(
    digits_root: Path, pairing: str, shots: int
) -> None:
    ds = me.DoubleNMNIST(digits_root, split="test", pairing=pairing)
    name = f"sample-5way-{shots}shot"
    newest, first = bind(name, ds), bind(f"{name}-v1", ds)
    assert (newest.name, newest.version, newest.division) == (name, 2, "episode")
    assert (first.name, first.version, first.division) == (name, 1, "class")
    assert newest == bind(f"{name}-v2", ds)
    assert bind(newest.versioned_name, ds) == newest
    assert bind(first.versioned_name, ds) == first
    assert bind(f"5way-{shots}shot-v1", ds).versioned_name == f"5way-{shots}shot"
    assert first.deviations() == newest.deviations() == []
    assert episode_list(ds, first).digest != episode_list(ds, newest).digest
    with pytest.raises(UsageError, match="in version 3: this release knows 1, 2; upgrade"):
        bind(f"{name}-v3", ds)
    for wrong in (f"{name}-v0", f"{name}-v", f"{name}-v1-v2", f"{name}v1"):
        with pytest.raises(UsageError, match=r"no protocol|in version"):
            bind(wrong, ds)


def test_version_1_is_no_protocol_of_the_further_deals(digits_root: Path) -> None:
    ds = me.DoubleNMNIST(digits_root, split="test", classes=DEALS[4])
    assert bind("sample-5way-1shot", ds).deviations() == []
    assert bind("5way-1shot", ds).deviations() == []
    assert bind("sample-5way-1shot-v1", ds).deviations() == [
        "classes=novel-components-5 instead of published or novel-components"
    ]


def test_in_version_2_no_query_has_a_recording_of_the_support(digits_root: Path) -> None:
    for classes in ("published", DEALS[0], DEALS[9]):
        for pairing, first in (("all", 0), ("published", 1)):
            ds = me.DoubleNMNIST(digits_root, split="test", pairing=pairing, classes=classes)
            shared = {}
            for version in (1, 2):
                drawn = episode_list(ds, bind(f"sample-5way-5shot-v{version}", ds, episodes=60))
                shared[version] = sum(
                    len({*q[:, first:].ravel()} & {*s.ravel()})
                    for q, s in zip(drawn.queries, drawn.support, strict=True)
                )
            assert shared[1] > 0 == shared[2], (classes, pairing)


def test_the_command_writes_digests_that_evaluate_compares_with(
    digits_root: Path, digits: me.DoubleNMNIST, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = bind("sample-5way-1shot", digits)
    assert published_digest(digits.fingerprint, protocol) is None
    out = tmp_path / "episode-digests.json"
    every = list(table.protocols(all_versions=True))
    some = [p for p in every if (p.name, p.classes) == ("sample-5way-1shot", "published")]
    assert len(some) == 8  # two versions and pairings of two datasets
    with monkeypatch.context() as patched:  # all protocols would take long
        patched.setattr(episode_digests, "protocols", lambda all_versions: some)
        words = [str(digits_root / "double-nmnist.h5"), "--out", str(out)]
        assert episode_digests.main(words) == 0
    (archive,) = json.loads(out.read_text("utf-8"))["archives"].values()
    assert archive["recordings"] == 440
    assert len(archive["episodes"]) == 4
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
