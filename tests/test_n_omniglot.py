"""N-Omniglot as a dataset, from the folder of recordings to a scored learner."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.omniglot import drawing, write_n_omniglot

import metaevents as me
from metaevents.benchmark.protocols import bind, protocols
from metaevents.building import build_archive, open_source, verify_rules
from metaevents.cli import main
from metaevents.dataset_card import statistics_table


def test_the_splits_have_different_alphabets(marked_omniglot_root: Path) -> None:
    splits = {
        split: me.NOmniglot(marked_omniglot_root, split=split) for split in ("train", "val", "test")
    }
    assert {name: len(dataset) for name, dataset in splits.items()} == {
        "train": 24,
        "val": 6,
        "test": 20,
    }
    assert splits["test"].frame_shape == (120, 2, 25, 25)
    ids = [dataset.recording_ids(0)[0][0].split("/")[0] for dataset in splits.values()]
    assert ids == ["background", "background", "evaluation"]
    assert {dataset.fingerprint for dataset in splits.values()} == {splits["val"].fingerprint}


def test_a_sample_is_one_drawing_on_the_grid(omniglot_root: Path) -> None:
    dataset = me.load("n-omniglot", omniglot_root, split="test")
    assert len(dataset) == 659  # the official classes, also those without recordings here
    name = "ULOG/character26"
    assert dataset.n_recordings(name) == (20,)
    assert dataset.recording_ids(name)[0][4] == "evaluation/ULOG/character26/05"
    frames = dataset.frames(name, 4)
    events = drawing(name, 5)
    t = events["t"] - events["t"][0]
    expected = np.zeros((120, 2, 25, 25))
    x, y = (events["x"] - 54) // 10, (events["y"] - 4) // 10
    np.add.at(expected, (t // 40_000, events["p"].astype(int), y, x), 1)
    assert torch.equal(frames, torch.tensor(expected, dtype=torch.float32))
    fine = dataset.events(name, 4, downsampled=False)
    assert np.array_equal(fine["x"], events["x"] - 54)


@pytest.mark.parametrize(("ways", "shots"), [(5, 1), (5, 5), (20, 1), (20, 5)])
def test_twenty_drawings_fill_an_episode_exactly(
    marked_omniglot_root: Path, ways: int, shots: int
) -> None:
    dataset = me.NOmniglot(marked_omniglot_root, split="test")
    loader = me.EpisodeLoader(
        dataset, ways=ways, shots=shots, queries=15, episodes=3, representation="sum"
    )
    for episode in loader:
        assert episode.support_x.shape == (ways * shots, 2, 25, 25)
        drawn = [*episode.support_ids, *episode.query_ids]
        assert len(set(drawn)) == len(drawn) == ways * (shots + 15)
    with pytest.raises(me.UsageError, match="20"):
        me.EpisodeLoader(dataset, ways=5, shots=6, queries=15)


def test_bins_give_the_published_numbers_of_frames(marked_omniglot_root: Path) -> None:
    dataset = me.NOmniglot(marked_omniglot_root, split="val")
    for bins in (4, 12):
        loader = me.EpisodeLoader(dataset, ways=5, shots=1, queries=1, episodes=1, bins=bins)
        assert loader[0].support_x.shape[1] == bins


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "novel-components"}, "classes='novel-components'; choose one of published"),
        ({"pairing": "published"}, "has no published pairing; use pairing='all'"),
    ],
)
def test_what_one_recording_per_sample_cannot_have_is_refused(
    omniglot_root: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(me.UsageError, match=message):
        me.NOmniglot(omniglot_root, **options)


def test_the_protocols_are_those_that_the_dataset_can_have(marked_omniglot_root: Path) -> None:
    bound = [protocol for protocol in protocols() if protocol.dataset == "n-omniglot"]
    assert [protocol.name for protocol in bound] == [
        *("5way-1shot", "5way-5shot", "20way-1shot", "20way-5shot")
    ]
    assert {(protocol.pairing, protocol.classes) for protocol in bound} == {("all", "published")}
    dataset = me.NOmniglot(marked_omniglot_root, split="test")
    protocol = bind("5way-1shot", dataset)
    assert protocol.deviations() == []
    fields = {**protocol.to_dict(), "pairing": "published"}
    assert type(protocol).from_dict(fields).deviations() == ["pairing=published instead of all"]


def test_all_recordings_of_a_character_serve_its_split(omniglot_root: Path) -> None:
    archive = me.Archive(omniglot_root / "n-omniglot.h5")
    assert any("partition" in line for line in verify_rules(archive))
    for label, split in (("Greek/character01", "val"), ("ULOG/character26", "test")):
        assert len(archive.select(label, [split])) == 20
    with pytest.raises(me.ArchiveError, match="expected double-nmnist"):
        me.DoubleNMNIST(omniglot_root / "n-omniglot.h5")


def test_the_archive_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    pytest.importorskip("aedat", reason="aedat is not installed; install metaevents[omniglot]")
    labels = {"background": [f"Greek/character{k:02d}" for k in range(1, 6)]}
    source = open_source("n-omniglot", write_n_omniglot(tmp_path / "raw", labels))
    files = [
        build_archive("n-omniglot", tmp_path / f"{jobs}.h5", source, jobs=jobs).read_bytes()
        for jobs in (1, 2)
    ]
    assert files[0] == files[1]


def test_every_command_takes_the_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("aedat", reason="aedat is not installed; install metaevents[omniglot]")
    given = write_n_omniglot(tmp_path / "given")
    root = str(tmp_path)

    def run(*words: str) -> str:
        assert main(list(words)) == 0
        return capsys.readouterr().out

    told = run("download", "n-omniglot", "--root", root, "--from", str(given))
    assert f"metaevents build n-omniglot --root {root} --source {given}" in told
    run("build", "n-omniglot", "--root", root, "--source", str(given), "--jobs", "1")
    archive = str(tmp_path / "n-omniglot.h5")
    info = json.loads(run("info", archive, "--json"))
    assert (info["source"], info["recordings"]) == ("n-omniglot-subset", 1_000)
    assert {len(labels) for labels in info["recordings_per_label"].values()} == {24, 6, 20}
    assert "train      480   20 to 20" in run("info", archive)
    assert "ok  partition" in run("verify", archive)
    figure = str(tmp_path / "figure.png")
    run("show", archive, "--classes", "Greek/character01,ULOG/character01", "--out", figure)
    assert Path(figure).stat().st_size > 1_000


def test_the_simulated_archive_is_built_and_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("aedat", reason="aedat is not installed; install metaevents[omniglot]")
    root = str(tmp_path)
    assert main(["build", "n-omniglot", "--root", root, "--simulated", "--jobs", "1"]) == 0
    assert "1,000 recordings (simulated)" in capsys.readouterr().out
    dataset = me.NOmniglot(tmp_path, split="test")
    assert dataset.simulated
    card = Path(__file__).parent.parent / "cards" / "datasets" / "n-omniglot.md"
    assert statistics_table(dataset.archive) in card.read_text("utf-8")
    assert dataset.fingerprint == "0873fbcdac3e9aeea2a46ead950752e891eff7894d91f8e052928bfc21c8d7d9"
    command = ["evaluate", "floor:prototypes", "--archive", root, "--episodes", "20", "--json"]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert 0.6 < report["accuracy"] < 1
