"""The tests that need a GPU, in groups side by side; the outcome goes into the JSON of bench.py.

    python tests/gpu/checks.py --into gpu.json

The tests mostly wait for compilers and for the start of the GPU. Four plain processes finish sooner
than one, and sooner than the workers of pytest-xdist.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]

GROUPS = (
    ("tests/baselines/snn/test_pooling.py",),
    ("tests/baselines/snn/test_recurrence.py", "tests/test_device_frames.py"),
    ("tests/baselines/test_gpu.py", "-k", "trains_on"),
    ("tests/baselines/test_gpu.py", "-k", "not trains_on"),
)


def run(groups: Sequence[Sequence[str]], root: Path = ROOT) -> dict[str, Any]:
    """Run groups of tests at once, print what they say, and return the outcome.

    Args:
        groups: The arguments of pytest, per group.
        root: The folder that pytest runs in.

    Returns:
        "passed", "failed" and "skipped", the numbers of tests, and "seconds". A group that ends
        without a report, for example because it ran out of memory, counts as one failed test.
    """
    threads = str(max(1, (os.cpu_count() or 1) // len(groups)))
    environment = {"OMP_NUM_THREADS": threads, **os.environ}
    environment.pop("PYTEST_ADDOPTS", None)  # for example workers, which take longer here
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        reports = [Path(folder) / f"{number}.xml" for number in range(len(groups))]
        running = []
        for group, report in zip(groups, reports, strict=True):
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
            with report.with_suffix(".log").open("wb") as log:
                running.append(
                    subprocess.Popen(
                        [*command, f"--junitxml={report}", *group],
                        cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT,
                    )
                )  # fmt: skip
        found = [
            outcome(process.wait(), report)
            for process, report in zip(running, reports, strict=True)
        ]
        for report in reports:
            print(report.with_suffix(".log").read_text("utf-8", "replace"), flush=True)
    return {
        **{name: sum(each[name] for each in found) for name in ("passed", "failed", "skipped")},
        "seconds": time.perf_counter() - start,
    }


def outcome(code: int, report: Path) -> dict[str, int]:
    """Return the numbers of one group.

    Args:
        code: The exit status of pytest.
        report: What pytest wrote for `--junitxml`.
    """
    counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    if report.is_file():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            for name in counts:
                counts[name] += int(suite.get(name, 0))
    failed = counts["failures"] + counts["errors"]
    if code:
        failed = max(1, failed)
    return {
        "passed": max(0, counts["tests"] - failed - counts["skipped"]),
        "failed": failed,
        "skipped": counts["skipped"],
    }


def main() -> None:
    """Run the tests; exit with 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--into", type=Path, required=True, help="JSON to add the outcome to")
    out = parser.parse_args().into
    found = run(GROUPS)
    results = json.loads(out.read_text("utf-8")) if out.is_file() else {}
    out.write_text(json.dumps({**results, "tests": found}, indent=1) + "\n", "utf-8")
    print(f"tests: {found['passed']} passed, {found['failed']} failed, "
          f"{found['skipped']} skipped, {found['seconds']:.1f} s")  # fmt: skip
    if found["failed"]:
        raise SystemExit("tests failed: the figures must not be published")


if __name__ == "__main__":
    main()
