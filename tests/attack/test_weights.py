"""Weights files and run folders from strangers: damaged and forged ones.

Each is read whole, or is refused with one error that names the file.
"""

from __future__ import annotations

import base64
import json
import random
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from baselines.learners import SHIPPED, from_weights
from baselines.training.folder import Checkpoint, RunFolder, learning_curve
from baselines.weights_file import Weights, read_weights
from metaevents.errors import MetaeventsError, UsageError

ODD: list[Any] = [
    None, True, False, -1, 0, 2, 0.5, 1e308, 10**18, 10**90, "", "x", "../../x", "a\x00", [], {},
    [[]], [1, None], "9" * 500, {"a": "\u202e"},
]  # fmt: skip

SHIPPED_FILES = ("cnn-maml.best.double-nmnist.published.5way.safetensors",
                 "snn-transfer.best.double-nmnist.published.safetensors")  # fmt: skip


def shipped(number: int = 0) -> bytes:
    """The content of a weights file of the release."""
    content: bytes = (SHIPPED / SHIPPED_FILES[number]).read_bytes()
    return content


def header_size(content: bytes) -> int:
    """Number of bytes of a weights file's header."""
    return int.from_bytes(content[:8], "little")


def forged(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A weights file whose header was changed."""
    size = header_size(content)
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def with_document(content: bytes, part: str, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A weights file whose "config" or "record" was changed."""

    def change_header(header: dict[str, Any]) -> None:
        document = json.loads(header["__metadata__"][part])
        change(document)
        header["__metadata__"][part] = json.dumps(document)

    return forged(content, change_header)


def accepted(path: Path, content: bytes) -> bool:
    """Return whether a weights file is accepted; it then makes a learner."""
    path.write_bytes(content)
    started = time.process_time()
    try:
        from_weights(read_weights(path), path)
        message = None
    except MetaeventsError as error:
        message = str(error)
    assert time.process_time() - started < 5
    if message is not None:
        assert path.name in message
        assert "\n" not in message
        assert len(message) < 1200
    return message is None


def damage(content: bytes, draw: random.Random) -> bytes:
    """A file with flipped bits, a cut end, or other bytes in its header."""
    data, size = bytearray(content), header_size(content)
    kind = draw.randrange(5)
    if kind == 0:
        del data[draw.randrange(len(data)) :]
    elif kind == 1:
        data[draw.randrange(8)] ^= 1 << draw.randrange(8)
    elif kind == 2:
        start = 8 + draw.randrange(size)
        data[start : start + draw.randrange(1, 9)] = draw.randbytes(draw.randrange(9))
    else:
        for _ in range(draw.choice((1, 1, 4))):
            data[8 + draw.randrange(size)] ^= 1 << draw.randrange(8)
    return bytes(data)


def check_damaged(path: Path, n: int) -> None:
    """Read `n` damaged files; the release's own stays readable."""
    draw = random.Random(12)
    for _ in range(n):
        accepted(path, damage(shipped(draw.randrange(2)), draw))
    assert accepted(path, shipped())


def check_odd_fields(path: Path, step: int) -> None:
    """Put every odd value into every `step`-th field of configuration and record."""
    for number in range(2):
        content = shipped(number)
        metadata = json.loads(content[8 : 8 + header_size(content)])["__metadata__"]
        fields = [
            (part, name) for part in ("config", "record") for name in json.loads(metadata[part])
        ]
        for part, name in fields[::step]:
            for value in ODD:
                accepted(path, with_document(content, part, lambda d: d.update({name: value})))  # noqa: B023
            accepted(path, with_document(content, part, lambda d: d.pop(name)))  # noqa: B023


def test_damaged_files_are_one_error(tmp_path: Path) -> None:
    check_damaged(tmp_path / "w.safetensors", 40)
    check_odd_fields(tmp_path / "w.safetensors", 20)


@pytest.mark.attack
def test_many_damaged_files_are_one_error(tmp_path: Path) -> None:
    check_damaged(tmp_path / "w.safetensors", 2000)
    check_odd_fields(tmp_path / "w.safetensors", 1)


def test_a_record_that_unpacks_to_two_gigabytes_is_refused_at_once(tmp_path: Path) -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(2048)) + packer.flush()

    def change(record: dict[str, Any]) -> None:
        record["trained"]["recordings_zlib_base64"] = base64.b64encode(bomb).decode()

    path = tmp_path / "w.safetensors"
    path.write_bytes(with_document(shipped(), "record", change))
    started = time.process_time()
    with pytest.raises(UsageError, match=r"w\.safetensors.*unpack to more than 67,108,864 bytes"):
        read_weights(path)
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("config", {"channels": [60_000] * 16}),
        ("config", {"ways": 1_000_000}),
        ("config", {"kernel": 1001}),
        ("config", {"head_steps": 10**18}),
        ("config", {"recipe": "../../x"}),
        ("record", {"frame_shape": [100, 2, 10**9, 10**9]}),
        ("record", {"frame_shape": [10**18, 2, 0, 32]}),
        ("record", {"fingerprint": "x"}),
        ("record", {"step": 1.0}),
        ("record", {"measured": {"val_accuracy": True}}),
    ],
)
def test_claims_that_the_tensors_do_not_bear_out_are_refused(
    part: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    content = with_document(shipped(), part, lambda document: document.update(fields))
    assert not accepted(tmp_path / "w.safetensors", content)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    weights = read_weights(SHIPPED / SHIPPED_FILES[0])
    name = "net.head.bias"
    tensors = {**weights.tensors, name: torch.full_like(weights.tensors[name], value)}
    Weights(tensors, weights.config, weights.record).save(tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match=r"w\.safetensors.*net\.head\.bias.*infinite or not a"):
        read_weights(tmp_path / "w.safetensors")


# --- run folders ---------------------------------------------------------------------------------


def make_run(path: Path) -> tuple[RunFolder, Weights]:
    """A folder with a checkpoint, from weights of the release."""
    weights = read_weights(SHIPPED / SHIPPED_FILES[0])
    folder, step = RunFolder(path), weights.record.step
    optimizer = {"adam": {"state": {0: {"step": torch.tensor(1.0)}}}, "schedule": {"x": 1}}
    log = [{"step": step, "loss": 1.0, "accuracy": 0.5}]
    folder.prepare(weights.config)
    folder.save_checkpoint(Checkpoint(weights, optimizer, {"step": step, "accuracy": 0.5}, log))
    return folder, weights


def check_run_folder(path: Path, n: int) -> None:
    """Damage each file of a run `n` times; what reads it is whole or one error."""
    folder, weights = make_run(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    assert len(files) == 5
    draw = random.Random(13)
    for file in files:
        good, refused = file.read_bytes(), 0
        for number in range(n):
            data = bytearray(good)
            if number == 0:
                data = bytearray()
            elif number % 2:
                data[draw.randrange(min(len(data), 4000))] ^= 1 << draw.randrange(8)
            else:
                del data[draw.randrange(len(data)) :]
            file.write_bytes(data)
            try:
                folder.choose_config(weights.config, resume=True)
                folder.load_checkpoint()
                folder.checkpoint_step()
                learning_curve(path)
            except MetaeventsError as error:
                refused += 1
                message = str(error)
            else:
                continue
            assert str(path) in message
            assert "\n" not in message
        assert refused
        file.write_bytes(good)
    folder.load_checkpoint()


def test_a_damaged_run_folder_is_one_error(tmp_path: Path) -> None:
    check_run_folder(tmp_path, 6)


@pytest.mark.attack
def test_many_damaged_run_folders_are_one_error(tmp_path: Path) -> None:
    check_run_folder(tmp_path, 400)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "[]", "expected an object"),
        ("last/state.json", "[]", "state.json is damaged"),
        ("last/state.json", '{"step": 1, "files": "../../x"}', "state.json is damaged"),
        ("log.jsonl", "[1]\n", "log.jsonl is damaged"),
        ("log.jsonl", '{"step": 1, "loss": NaN}\n', "log.jsonl is damaged"),
    ],
)
def test_forged_files_of_a_run(file: str, content: str, message: str, tmp_path: Path) -> None:
    folder, weights = make_run(tmp_path)
    (tmp_path / file).write_text(content, "utf-8")

    def read_all() -> None:
        folder.choose_config(weights.config, resume=True)
        folder.load_checkpoint()
        learning_curve(tmp_path)

    with pytest.raises(UsageError, match=message):
        read_all()
