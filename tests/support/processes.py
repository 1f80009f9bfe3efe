"""Child processes that tests start, wait for and kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable

# Code before a child process's own: stop at the n-th member of a zip, n = sys.argv[1].
STOP_IN_THE_MIDDLE = """
import sys, time, zipfile

count, original = 0, zipfile.ZipFile.open

def stop(*arguments, **options):
    global count
    count += 1
    if count == int(sys.argv[1]):
        print("in the middle", flush=True)
        time.sleep(60)
    return original(*arguments, **options)

zipfile.ZipFile.open = stop
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python process that runs `code` with `sys.argv[1:]` = arguments."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def kill_in_the_middle(process: subprocess.Popen[str]) -> None:
    """Kill a process that runs `STOP_IN_THE_MIDDLE` when it has stopped."""
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n"
    process.send_signal(signal.SIGKILL)
