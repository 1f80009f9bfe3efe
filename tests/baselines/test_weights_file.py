"""Weights files: what they hold, and files that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.untrained import untrained_weights as weights

from baselines.config import recipe
from baselines.models import build_maml, build_network
from baselines.weights_file import fill, read_weights
from metaevents.errors import MissingError, UsageError


@pytest.fixture(scope="module")
def archive(nmnist_root: Path) -> Path:
    return nmnist_root / "double-nmnist.h5"


def test_weights_survive_their_file(archive: Path, tmp_path: Path) -> None:
    written = weights(archive, step=7, measured={"val_accuracy": 0.5})
    written.save(tmp_path / "w.safetensors")
    read = read_weights(tmp_path / "w.safetensors")
    assert (read.config, read.record) == (written.config, written.record)
    assert all(torch.equal(read.tensors[name], value) for name, value in written.tensors.items())
    assert list(tmp_path.iterdir()) == [tmp_path / "w.safetensors"]


def test_files_that_are_no_weights_are_refused(archive: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "w.safetensors"
    with pytest.raises(MissingError, match="no weights"):
        read_weights(file)
    weights(archive).save(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="not a complete safetensors file"):
        read_weights(file)
    save_file({"w": torch.zeros(1)}, file)
    with pytest.raises(UsageError, match="no record of its training"):
        read_weights(file)


def test_weights_of_another_architecture_name_what_does_not_fit(archive: Path) -> None:
    found = weights(archive)
    other = recipe("cnn-maml", "paper", channels=(4, 8, 8))
    with pytest.raises(
        UsageError,
        match=r"another architecture: net.body.1.weight is \(4, 4, 5, 5\) there and \(8, 4, 5, 5\)",
    ):
        fill(build_maml(other, build_network(other, found.record.frame_shape)), found, "w")


def test_the_digest_covers_parameters_and_configuration_and_not_the_record(archive: Path) -> None:
    first = weights(archive)
    record = replace(first.record, measured={"val_accuracy": 0.5})
    assert replace(first, record=record).digest() == first.digest()
    config = replace(first.config, test_steps=3)
    assert replace(first, config=config).digest() != first.digest()
    name, value = next(iter(first.tensors.items()))
    changed = {**first.tensors, name: value + 1}
    assert replace(first, tensors=changed).digest() != first.digest()
