"""Install the package from wheels alone on every Python from 3.10 to 3.13, and try it there.

    python .ci/interpreters.py fetch DIR      # make environments, download all wheels
    python .ci/interpreters.py test DIR       # install from that folder, offline, and test
    python .ci/interpreters.py test DIR 3.12  # one version alone

Interpreters are those on PATH and those of pyenv; one that is missing is named and passed over. On
each of them, in a new virtual environment:

- `pip install --only-binary=:all: -c constraints.txt` of the built wheel and its dependencies;
- `metaevents quickstart`;
- .ci/smoke.py: fingerprint and episode digests must be those of tests/test_golden.py.

On 3.10 all of it is done again with constraints-lowest.txt, the lower bounds of all dependencies,
and `LOWEST_TESTS` run. Linux wheels of torch ask for CUDA packages of 2 GB, which a CPU does not
use but the import needs. They are the same files for every Python: they are downloaded and unpacked
once, and linked into the other environments. Any failure, also of a download, is exit status 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
LOWEST = "3.10"
LOWEST_TESTS = (
    "tests/archive",
    "tests/baselines/test_learners.py",
    "tests/baselines/test_networks.py",
    "tests/benchmark/test_predictions.py",
    "tests/benchmark/test_recording_variance.py",
    "tests/sources",
    "tests/test_composition.py",
    "tests/test_datasets.py",
    "tests/test_episodes.py",
    "tests/test_events.py",
    "tests/test_golden.py",
    "tests/test_rng.py",
    "tests/test_sampling.py",
)
TEST_PACKAGES = ("pytest", "hypothesis", "pytest-xdist")
SECONDS = 900
"""The longest that one command may take."""
SHARED = ("nvidia", "cuda_toolkit")
"""First parts of the names of CUDA packages that are the same for every Python."""


class Failed(Exception):
    """A command failed or took too long; the message says which, and ends with its output."""


@dataclass(frozen=True)
class Job:
    """One installation.

    Attributes:
        python: Path of the interpreter.
        version: Its version, such as 3.12.
        lowest: Whether it gets the lowest versions of all dependencies.
        folder: Where wheels and environments are.
    """

    python: str
    version: str
    lowest: bool
    folder: Path

    @property
    def title(self) -> str:
        """A few words for messages."""
        return f"Python {self.version}{' with the lowest versions' if self.lowest else ''}"

    @property
    def wheels(self) -> Path:
        """The folder of wheels, the same for all jobs."""
        return self.folder / "wheels"

    @property
    def environment(self) -> Path:
        """The virtual environment."""
        return self.folder / f"{self.version}{'-lowest' if self.lowest else ''}"

    @property
    def bin(self) -> Path:
        """The folder of the environment's programs."""
        return self.environment / "bin"

    @property
    def requirements(self) -> list[str]:
        """The arguments of pip that choose what is installed."""
        (wheel,) = self.wheels.glob("metaevents-*.whl")
        constraints = ROOT / ("constraints-lowest.txt" if self.lowest else "constraints.txt")
        packages = [str(wheel), *(TEST_PACKAGES if self.lowest else ())]
        return ["--only-binary=:all:", "-c", str(constraints), *packages]


def main(words: list[str]) -> int:
    """Do what the words of the command line say; return the exit status."""
    action, place, *wanted = words
    folder = Path(place).absolute()
    pythons = {version: find(version) for version in wanted or VERSIONS}
    for version, python in pythons.items():
        print(f"Python {version}: {python or 'not on this machine, NOT TESTED'}", flush=True)
    jobs = [
        Job(python, version, lowest, folder)
        for version, python in pythons.items()
        if python
        for lowest in ((False, True) if version == LOWEST else (False,))
    ]
    failures = 0
    if action == "fetch":
        build(folder / "wheels")
    for job in jobs:
        start = time.monotonic()
        try:
            (fetch if action == "fetch" else test)(job)
            print(f"{job.title}: {action} done in {time.monotonic() - start:.0f} s", flush=True)
        except Failed as error:
            failures += 1
            print(f"{job.title}: {action} FAILED: {error}", flush=True)
    print(f"{len(jobs) - failures} passed, {failures} failed")
    return 1 if failures or not jobs else 0


def find(version: str) -> str | None:
    """The path of an interpreter of a version, such as 3.12, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    candidates = [f"python{version}", *map(str, pyenv.glob(f"{version}.*/bin/python{version}"))]
    ask = "import sys; print(*sys.version_info[:2], sep='.'); print(sys._base_executable)"
    for candidate in candidates:
        try:
            asked = subprocess.run(
                [candidate, "-c", ask], capture_output=True, text=True, check=True, timeout=60
            )
        except (OSError, subprocess.SubprocessError):  # a shim of pyenv without its version, say
            continue
        found, path = asked.stdout.splitlines()
        if found == version:
            return path
    return None


def run(*words: object, cwd: str | Path = ROOT, variables: Mapping[str, str] | None = None) -> str:
    """Run a command; return what it printed.

    Raises:
        Failed: Its exit status is not 0, or it takes longer than `SECONDS`.
    """
    shown = " ".join(map(str, words))
    # No other folder than the environment's own may give packages.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    try:
        done = subprocess.run(
            list(map(str, words)),
            cwd=cwd,
            env={**environment, **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{shown} took more than {SECONDS} s") from error
    if done.returncode != 0:
        raise Failed(f"{shown}\n{done.stdout[-6000:]}")
    return done.stdout


def build(wheels: Path) -> None:
    """Build the package's own wheel into the folder of wheels, from a clean copy of the source."""
    wheels.mkdir(parents=True, exist_ok=True)
    for old in wheels.glob("metaevents-*.whl"):
        old.unlink()
    # The tests, which may run at the same time, write some of these.
    ignored = shutil.ignore_patterns(
        *("__pycache__", ".*_cache", ".hypothesis", ".git", ".venv", "*.egg-info", "build", "dist")
    )
    with tempfile.TemporaryDirectory() as scratch:
        source = shutil.copytree(ROOT, Path(scratch) / "source", ignore=ignored)
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", wheels, source)


def fetch(job: Job) -> None:
    """Make the environment and download its wheels; those that are there are not loaded again."""
    run(job.python, "-m", "venv", job.environment)
    download = (job.bin / "python", "-m", "pip", "download", "--quiet", "-d", job.wheels)
    try:
        run(*download, *job.requirements)
    except Failed as error:
        print(f"{job.title}: a download failed and is tried once more: {error}", flush=True)
        run(*download, *job.requirements)


def test(job: Job) -> None:
    """Install the package into the job's environment without the network, and try it."""
    shared = job.folder / "shared"
    if not job.lowest:
        link_shared(shared, job)
    install = (job.bin / "python", "-m", "pip", "install", "--quiet", "--no-compile")
    run(*install, "--no-index", "--find-links", job.wheels, *job.requirements)
    run(job.bin / "python", "-m", "pip", "check")
    if not job.lowest and not shared.exists():
        keep_shared(shared, job)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch, "data")
        options: dict[str, Any] = {
            "cwd": scratch,  # not the checkout: what is installed is tested
            "variables": {
                "METAEVENTS_CACHE": f"{scratch}/cache",
                "NUMBA_CACHE_DIR": f"{scratch}/numba",
            },
        }
        run(job.bin / "metaevents", "quickstart", "--out", data, **options)
        print(run(job.bin / "python", ROOT / ".ci" / "smoke.py", data, **options), end="")
        run(job.bin / "metaevents", "verify", data / "double-nmnist.h5", **options)
        if job.lowest:
            # The command `pytest`, unlike `python -m pytest`, does not put the checkout first.
            options["cwd"] = ROOT
            words = (job.bin / "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *LOWEST_TESTS)
            print("\n".join(run(*words, **options).splitlines()[-12:]))
    shutil.rmtree(job.environment)


def site_packages(job: Job) -> Path:
    """The folder of the packages that are installed in a job's environment."""
    (found,) = (job.environment / "lib").glob("python3*/site-packages")
    return found


def keep_shared(shared: Path, job: Job) -> None:
    """Keep the CUDA packages of the first environment that has some."""
    for path in site_packages(job).iterdir():
        if path.name.startswith(SHARED):
            shutil.copytree(path, shared / path.name, copy_function=os.link)


def link_shared(shared: Path, job: Job) -> None:
    """Put the CUDA packages that were kept into an environment; pip then finds them installed."""
    for path in shared.glob("*"):
        shutil.copytree(path, site_packages(job) / path.name, copy_function=os.link)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
