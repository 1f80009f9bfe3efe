"""Signals that end a command: one line, the status of the signal, and no unfinished file."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path

import pytest
from support.processes import start

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")

# A process that runs in the background has inherited SIGINT, and with nohup SIGHUP, as ignored.
NOT_IGNORED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""
WORK = """
import signal, sys, time
from pathlib import Path
from metaevents.cli.base import run_action
from metaevents.files import atomic_file

def work():
    with atomic_file(Path(sys.argv[1]) / "archive.h5") as temporary:
        temporary.write_bytes(b"half")
        print("in the middle", flush=True)
        time.sleep(60)

sys.exit(run_action("metaevents", work))
"""


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "terminated"),
    ],
)
def test_a_command_that_a_signal_ends_leaves_nothing(
    number: int, status: int, word: str, tmp_path: Path
) -> None:
    process = start(NOT_IGNORED + WORK, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status
    assert error == f"metaevents: {word}; run the same command to continue\n"
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    code = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WORK
    process = start(code, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_workers_end_as_they_did(tmp_path: Path) -> None:
    """A forked worker has the function of its parent, and nothing of its own to clean up."""
    code = """
import os, signal, sys, time
from metaevents.cli.base import run_action

def work():
    ready, tell = os.pipe()
    worker = os.fork()
    if not worker:
        os.write(tell, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    os.kill(worker, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))

status = run_action("metaevents", work)
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
sys.exit(status)
"""
    process = start(code, tmp_path)
    output, error = process.communicate(timeout=60)
    assert (output, error, process.returncode) == ("-15\n", "", 0)


@pytest.mark.parametrize("program", ["metaevents", "baselines"])
def test_an_interrupt_while_the_program_is_loaded_is_no_traceback(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == f"{program}.cli":
                raise KeyboardInterrupt

    for name in [name for name in sys.modules if f"{name}.".startswith(f"{program}.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules[program], "cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(program, run_name="__main__")
    assert ended.value.code == 130
