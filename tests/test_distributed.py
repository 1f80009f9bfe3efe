"""Process groups: shares, results of all processes, torchrun's environment, and devices."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.torchrun import python, torchrun

from metaevents import distributed
from metaevents.distributed import (
    ProcessGroup,
    is_first_process,
    pick_device,
    process_group,
    started_by_torchrun,
    use_own_gpu,
)
from metaevents.errors import UsageError

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ADDRESS = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
MEMBER = {"RANK": "1", "WORLD_SIZE": "2", **ADDRESS}


def set_environment(monkeypatch: pytest.MonkeyPatch, rank: str, size: str = "4") -> None:
    """Set the variables that torchrun sets, for one machine."""
    values = (rank, rank, size, "127.0.0.1", "29500")
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Pretend that there are two GPUs; the devices that were made the current one."""
    current: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *shape, **_: ones(*shape))
    return current


# --- a single process ---------------------------------------------------------------------------


def test_a_process_alone_has_all_items_and_gathers_its_own_result() -> None:
    with process_group() as group:
        assert (group.rank, group.size) == (0, 1)
        assert list(group.share(4)) == [0, 1, 2, 3]
        assert group.gather(lambda: "result") == ["result"]
        tensor = torch.ones(2)
        group.sum([tensor])
        group.wait()
        assert tensor.tolist() == [1, 1]
        assert group.any(True) is True
        assert group.any(False) is False
    assert not torch.distributed.is_initialized()


def test_a_failure_alone_is_raised_unchanged() -> None:
    with pytest.raises(KeyError, match="weights"):
        ProcessGroup().gather(lambda: {}["weights"])


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_shares_are_disjoint_and_cover_all_items(n: int) -> None:
    shares = [list(ProcessGroup(rank, 3).share(n)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# --- two processes ------------------------------------------------------------------------------

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from metaevents.distributed import is_first_process, process_group

def fail():
    raise KeyError("weights")

found = {"initialized before": torch.distributed.is_initialized()}
if sys.argv[1] == "initialized":
    torch.distributed.init_process_group("gloo")
with process_group() as group:
    tensors = [torch.full((2,), group.rank + 1.0), torch.tensor(10 ** group.rank)]
    group.sum(tensors)
    group.wait()
    try:
        failure = group.gather(fail if group.rank == 1 else lambda: "fine")
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    found |= {
        "rank": group.rank, "size": group.size, "first": is_first_process(),
        "backend": torch.distributed.get_backend(),
        "share": list(group.share(5)),
        "gather": group.gather(lambda: {"rank": group.rank}),
        "sum": [tensor.tolist() for tensor in tensors],
        "any": [group.any(False), group.any(group.rank == 1), group.any(True)],
        "failure": failure,
    }
found["initialized after"] = torch.distributed.is_initialized()
if sys.argv[1] == "initialized":
    torch.distributed.destroy_process_group()
Path(f"rank-{found['rank']}.json").write_text(json.dumps(found))
"""


@pytest.mark.parametrize("start", ["fresh", "initialized"])
def test_two_processes_share_gather_sum_and_fail_together(start: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, "utf-8")
    done = torchrun("script.py", start, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"rank-{r}.json").read_text()) for r in (0, 1))
    for rank, found in enumerate((first, second)):
        assert (found["rank"], found["size"], found["first"]) == (rank, 2, rank == 0)
        assert found["backend"] == "gloo"
        assert found["gather"] == [{"rank": 0}, {"rank": 1}]
        assert found["sum"] == [[3, 3], 11]
        assert found["any"] == [False, True, True]
        assert found["initialized before"] is False
        assert found["initialized after"] is (start == "initialized")
    assert (first["share"], second["share"]) == ([0, 2, 4], [1, 3])
    assert first["failure"] == "UsageError: process 1 failed: KeyError: 'weights'"
    assert second["failure"] == "KeyError: 'weights'"


# --- torchrun's environment ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rank", "size", "several", "first"),
    [
        (None, None, False, True),
        ("0", "1", False, True),
        ("0", "2", True, True),
        ("1", "2", True, False),
        ("3", "4", True, False),
    ],
)
def test_the_environment_says_which_process_this_is(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, size: str | None, several: bool, first: bool
) -> None:
    if rank is not None and size is not None:
        set_environment(monkeypatch, rank, size)
    assert started_by_torchrun() is several
    assert is_first_process() is first


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "3"},
        {"RANK": ""},
        {"RANK": "3", "WORLD_SIZE": "1"},
        {"RANK": "x", "LOCAL_RANK": "y", **ADDRESS},
    ],
)
def test_variables_that_another_program_left_silence_nobody(
    monkeypatch: pytest.MonkeyPatch, gpus: list[Any], variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert started_by_torchrun() is False
    assert is_first_process() is True
    use_own_gpu()
    assert gpus == []
    with process_group() as group:
        assert group.size == 1


IMPOSSIBLE = [
    ({"WORLD_SIZE": ""}, "WORLD_SIZE=''"),
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two'"),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE='0'"),
    ({"WORLD_SIZE": "-2"}, "WORLD_SIZE='-2'"),
    ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE='2.0'"),
    ({"WORLD_SIZE": "9" * 5000}, "should be a whole number"),
    ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT are not set"),
    ({"WORLD_SIZE": "2", "RANK": "1"}, "MASTER_ADDR, MASTER_PORT are not set"),
    ({**MEMBER, "MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
    ({**MEMBER, "RANK": ""}, "RANK is not set"),
    ({**MEMBER, "RANK": "2"}, "RANK='2'"),
    ({**MEMBER, "RANK": "-1"}, "RANK='-1'"),
    ({**MEMBER, "RANK": "one"}, "RANK='one'"),
    ({**MEMBER, "MASTER_PORT": "port"}, "MASTER_PORT='port'"),
    ({**MEMBER, "MASTER_PORT": "70000"}, "MASTER_PORT='70000'"),
]


@pytest.mark.parametrize(("variables", "message"), IMPOSSIBLE)
def test_a_group_that_cannot_be_is_one_sentence_at_once(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for read in (started_by_torchrun, is_first_process, lambda: process_group().__enter__()):
        with pytest.raises(UsageError, match=re.escape(message)) as error:
            read()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_member_that_nobody_joins_waits_only_as_long_as_it_should(
    monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    variables = {**MEMBER, "RANK": rank, "MASTER_PORT": port, "METAEVENTS_JOIN_TIMEOUT": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    start = time.monotonic()
    with pytest.raises(UsageError, match="unset WORLD_SIZE; METAEVENTS_JOIN_TIMEOUT sets"):
        process_group().__enter__()
    assert time.monotonic() - start < 30
    assert not torch.distributed.is_initialized()


ONE_OF_TWO = """
import os, sys, time
from pathlib import Path
import torch
from metaevents.distributed import process_group

if sys.argv[1] == "initialized":
    torch.distributed.init_process_group("gloo")
message = "not asked"
if os.environ["RANK"] == "0":
    try:
        process_group().__enter__()
        message = "joined"
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    Path("done").touch()
else:
    while not Path("done").exists():
        time.sleep(0.1)
Path(f"rank-{os.environ['RANK']}.txt").write_text(message)
"""


@pytest.mark.parametrize("start", ["fresh", "initialized"])
def test_a_group_of_which_one_member_comes_is_one_sentence(
    start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAEVENTS_JOIN_TIMEOUT", "1")
    (tmp_path / "script.py").write_text(ONE_OF_TWO, "utf-8")
    done = torchrun("script.py", start, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    message = (tmp_path / "rank-0.txt").read_text("utf-8")
    assert message.startswith("UsageError: only 1 of 2 processes came within 1 s; start all")


# --- processors ---------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 processors; the folder of its control groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(distributed, "_CGROUPS", tmp_path)
    monkeypatch.setattr(distributed, "_OWN_CGROUP", tmp_path / "own")
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_processors_that_the_process_may_not_use_are_not_counted(machine: Path) -> None:
    assert distributed.available_processors() == 8
    code = (
        "import os\nfrom metaevents.distributed import available_processors\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "assert available_processors() == 1"
    )
    assert python("-c", code).returncode == 0


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        ({"own": "0::/\n", "cpu.max": "max 100000\n"}, 8),
        ({"own": "0::/\n", "cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"own": "0::/a/b\n", "a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
        ({"own": "0::/../..\n", "cpu.max": "400000 100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"own": "nonsense", "cpu.max": "nonsense"}, 8),
    ],
)
def test_limits_of_a_container_are_kept(
    machine: Path, files: dict[str, str], processors: int
) -> None:
    for name, text in files.items():
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).write_text(text)
    assert distributed.available_processors() == processors


# --- GPUs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("local_rank", "gpu"), [("0", 0), ("1", 1), ("3", 1)])
def test_each_process_uses_its_own_gpu(
    monkeypatch: pytest.MonkeyPatch, gpus: list[Any], local_rank: str, gpu: int
) -> None:
    use_own_gpu()
    assert gpus == []
    set_environment(monkeypatch, local_rank)
    use_own_gpu()
    assert gpus == [gpu]


def test_without_gpus_no_process_picks_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(distributed, "_local_gpu", lambda: pytest.fail("there is no GPU"))
    set_environment(monkeypatch, "0")
    use_own_gpu()
    assert pick_device("auto") == torch.device("cpu")


# --- devices ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "local_rank", "device"),
    [
        ("cpu", None, "cpu"),
        ("cpu", "1", "cpu"),
        ("auto", None, "cuda"),
        ("cuda", None, "cuda"),
        ("auto", "1", "cuda:1"),
        ("cuda", "3", "cuda:1"),
        ("cuda:0", "1", "cuda:0"),
    ],
)
def test_devices_by_name(
    monkeypatch: pytest.MonkeyPatch, gpus: list[Any], name: str, local_rank: str | None, device: str
) -> None:
    if local_rank is not None:
        set_environment(monkeypatch, local_rank)
    expected = torch.device(device)
    assert pick_device(name) == expected
    assert gpus == ([expected] if expected.index is not None else [])


@pytest.mark.parametrize("name", ["abacus", "cuda:9", "", "cpu:x"])
def test_unknown_devices_are_refused_with_what_to_give(name: str) -> None:
    message = f"^no device '{name}' here.*; give auto, cpu or a GPU that"
    with pytest.raises(UsageError, match=message):
        pick_device(name)


@pytest.mark.parametrize("cuda", [None, "13.0"])
def test_without_a_gpu_the_message_says_why_and_auto_takes_the_cpu(
    cuda: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    why = "build for CPUs" if cuda is None else "no GPU, or none whose driver supports CUDA 13.0"
    with caplog.at_level(logging.INFO, "metaevents.distributed"):
        assert pick_device("auto") == torch.device("cpu")
    assert [why in message for message in caplog.messages] == ([] if cuda is None else [True])
    monkeypatch.setattr(torch, "empty", _no_gpu)
    with pytest.raises(UsageError, match=rf"^no device 'cuda' here \(.*{why}\); give auto, cpu"):
        pick_device("cuda")


def _no_gpu(*_: Any, **__: Any) -> None:
    raise RuntimeError("no CUDA")


def test_a_gpu_that_is_too_old_is_refused_and_auto_takes_the_cpu(
    gpus: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old GPU")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    why = "Old GPU has the compute capability 6.1, and Triton needs 7.0"
    with pytest.raises(UsageError, match=f"^device 'cuda' cannot be used: {why}; give cpu$"):
        pick_device("cuda")
    with caplog.at_level(logging.INFO, "metaevents.distributed"):
        assert pick_device("auto") == torch.device("cpu")
    assert caplog.messages == [f"computing on the CPU: {why}"]


def test_a_gpu_that_does_not_run_is_refused(
    gpus: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch, "ones", fail)
    with pytest.raises(UsageError, match=r"does not run torch's code \(no kernel image"):
        pick_device("cuda")
