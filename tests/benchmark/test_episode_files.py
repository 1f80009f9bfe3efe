"""Episode files: what is written is read again, and nothing else."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recordings import random_events

import metaevents as me
from metaevents.benchmark.episode_files import episode_file, read_episode_file, write_episode_file
from metaevents.benchmark.protocols import EpisodeList, Protocol, bind, episode_list, sampler
from metaevents.errors import MissingError, UsageError
from metaevents.sources import DatasetSource


@pytest.fixture(scope="module")
def drawn(nmnist_root: Path) -> tuple[me.DoubleNMNIST, Protocol, EpisodeList]:
    dataset = me.DoubleNMNIST(nmnist_root, split="test")
    protocol = bind("sample-5way-1shot", dataset, episodes=4, queries=3)
    return dataset, protocol, episode_list(dataset, protocol)


def written(folder: Path, drawn: tuple[me.DoubleNMNIST, Protocol, EpisodeList]) -> Path:
    dataset, _, episodes = drawn
    return write_episode_file(folder, episodes, dataset.classes, dataset.archive.ids)


def test_episodes_are_read_as_they_were_drawn(
    tmp_path: Path, drawn: tuple[me.DoubleNMNIST, Protocol, EpisodeList]
) -> None:
    _, protocol, episodes = drawn
    path = written(tmp_path, drawn)
    assert path == episode_file(tmp_path, episodes.digest)
    read = read_episode_file(tmp_path, protocol, episodes.digest)
    assert read.digest == episodes.digest
    assert (read.labels.dtype, read.classes.dtype) == (np.int16, np.int16)
    assert (read.labels == episodes.labels).all()
    assert (read.classes == episodes.classes).all()
    # Recordings have other numbers, but equal recordings have equal ones.
    used = np.unique(np.concatenate([episodes.queries.ravel(), episodes.support.ravel()]))
    assert (used[read.queries] == episodes.queries).all()
    assert (used[read.support] == episodes.support).all()
    assert path.read_bytes() == written(tmp_path, drawn).read_bytes()


def test_more_than_32_768_classes_keep_their_numbers(tmp_path: Path) -> None:
    labels = [f"{i:03}" for i in range(190)]
    pairs = [(random_events(i, 1, 4, 4), label) for label in labels for i in range(4)]
    source = DatasetSource(pairs, sensor_size=(4, 4), labels=labels, name="many")
    rules: dict[str, Any] = {"partition": "by-class", "split": "test"}
    one = me.compose(source, 1, root=tmp_path, name="many", splits={"test": labels}, **rules)
    splits = {"test": [*product(labels, repeat=2)]}
    dataset = me.compose(one.archive, splits=splits, **rules)
    protocol = bind("sample-5way-1shot", dataset, episodes=50, queries=1)
    episodes = episode_list(dataset, protocol)
    assert episodes.classes.max() > np.iinfo(np.int16).max
    draw = sampler(dataset, protocol)
    for index, drawn in enumerate(episodes.classes.tolist()):
        assert tuple(dataset.classes[i] for i in drawn) == draw(index).classes
    write_episode_file(tmp_path, episodes, dataset.classes, dataset.archive.ids)
    read = read_episode_file(tmp_path, protocol, episodes.digest)
    assert (read.classes == episodes.classes).all()


def test_a_file_holds_its_arrays_alone(
    tmp_path: Path, drawn: tuple[me.DoubleNMNIST, Protocol, EpisodeList]
) -> None:
    with np.load(written(tmp_path, drawn)) as arrays:
        assert sorted(arrays) == ["classes", "header", "labels", "queries", "support"]


def test_a_file_cannot_hold_other_episodes_than_its_name_says(
    tmp_path: Path, drawn: tuple[me.DoubleNMNIST, Protocol, EpisodeList]
) -> None:
    _, protocol, episodes = drawn
    path = written(tmp_path, drawn)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["queries"] = arrays["queries"][:, ::-1]
    np.savez_compressed(path, **arrays)
    with pytest.raises(UsageError, match="not those of its name; write it again with"):
        read_episode_file(tmp_path, protocol, episodes.digest)


@pytest.mark.parametrize("damage", ["cut", "missing array", "out of range", "shape"])
def test_a_damaged_file_is_refused(
    tmp_path: Path, drawn: tuple[me.DoubleNMNIST, Protocol, EpisodeList], damage: str
) -> None:
    _, protocol, episodes = drawn
    path = written(tmp_path, drawn)
    with np.load(path) as file:
        arrays = dict(file)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        if damage == "missing array":
            del arrays["support"]
        elif damage == "out of range":
            arrays["labels"] = arrays["labels"] + 5
        else:
            arrays["labels"] = arrays["labels"][:, 1:]
        np.savez_compressed(path, **arrays)
    with pytest.raises(UsageError, match=rf"{path.name} is no episode file .*write it again with"):
        read_episode_file(tmp_path, protocol, episodes.digest)


def test_a_missing_file_is_an_error_that_says_how_to_write_it(
    tmp_path: Path, drawn: tuple[me.DoubleNMNIST, Protocol, EpisodeList]
) -> None:
    _, protocol, episodes = drawn
    with pytest.raises(MissingError, match="metaevents leaderboard --archive FILE"):
        read_episode_file(tmp_path, protocol, episodes.digest)
