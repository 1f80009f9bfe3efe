"""Wheel and sdist, their metadata, the constraints, and the checks before a release."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import metaevents as me

ROOT = Path(__file__).parent.parent
SDIST_FOLDERS = ("tests", "cards", ".ci", ".github")
SDIST_FILES = (
    *("pyproject.toml", "setup.py", "MANIFEST.in", "constraints.txt", "constraints-lowest.txt"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE"),
)
# Other tests may write some of these while the tree is copied.
IGNORED = ("__pycache__", ".*_cache", ".hypothesis", ".git", ".venv", "*.egg-info", "build", "dist")
SDIST_CARDS = ("every_link_within_the_documents_leads_somewhere", "anchors_exist")
LOCAL_RESULTS = tuple(("cards", "results", name) for name in ("cached", "runs", "tuned"))


def load(script: str) -> Any:
    """The module of a script in the root of the project."""
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from the sdist."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    clean = folder / "checkout"
    shutil.copytree(
        ROOT,
        clean,
        ignore=shutil.ignore_patterns(*IGNORED),
    )
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(clean)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_carries_code_data_and_license(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("metaevents", "baselines")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "cards"))]


@pytest.fixture(scope="module")
def unpacked(built: Path) -> Path:
    """The folder that the sdist unpacks to."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(built / "unpacked", filter="data")
    (folder,) = (built / "unpacked").iterdir()
    return folder


def test_the_sdist_holds_all_that_its_tests_need(unpacked: Path) -> None:
    for name in (*SDIST_FOLDERS, "metaevents", "baselines"):
        for path in (ROOT / name).rglob("*"):
            parts = path.relative_to(ROOT)
            if "__pycache__" in path.parts or path.is_dir():
                continue
            if parts.parts[:3] not in LOCAL_RESULTS:
                assert (unpacked / parts).is_file(), f"{parts} is not in the sdist"
    for name in SDIST_FILES:
        assert (unpacked / name).is_file(), f"{name} is not in the sdist"


def test_tests_pass_from_the_sdist(unpacked: Path) -> None:
    """A few here; all of them pass, too: `python -m pytest` in the unpacked folder."""
    names = ("test_specs.py", "test_rng.py", "test_golden.py::test_double_nmnist_is_golden")
    names += tuple(f"test_cards.py::test_{name}" for name in SDIST_CARDS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        + [f"tests/{name}" for name in names],
        cwd=unpacked,
        env={**os.environ, "PYTHONPATH": str(unpacked), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def metadata_of(wheel: Path) -> Message:
    """The metadata in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode("utf-8"))


def test_the_metadata_hold_what_pyproject_leaves_to_setup_py(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    metadata, setup = metadata_of(wheel), load("setup.py")
    readme = (ROOT / "README.md").read_text("utf-8")
    base = setup.address()
    expected = setup.absolute(readme, base, me.__version__) if base else readme
    assert metadata.get_payload().strip() == expected.strip()
    assert metadata["Description-Content-Type"] == "text/markdown"
    links = [f"{name}, {link}" for name, link in (setup.links(base) if base else {}).items()]
    assert metadata.get_all("Project-URL", []) == links


def test_a_build_without_an_address_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    setup, given = load("setup.py"), {}
    monkeypatch.setattr(setup, "setup", given.update)
    monkeypatch.setattr(setup, "CITATION", "version: 1.0\n")
    with pytest.warns(UserWarning, match="no address yet.*`repository-code:"):
        setup.main()
    assert given["project_urls"] == {}
    monkeypatch.setattr(setup, "CITATION", "repository-code: 'https://example.org/a/b/'\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        setup.main()
    assert given["project_urls"]["Repository"] == "https://example.org/a/b"
    assert given["long_description_content_type"] == "text/markdown"


def test_links_of_the_readme_work_elsewhere() -> None:
    setup = load("setup.py")
    readme = "![p](cards/p.png) [c](cards/c.md#top) [h](#here) [w](https://a.b/c) [m](mailto:a@b)"
    assert setup.absolute(readme, "https://x.org/r", "1.2") == (
        "![p](https://x.org/r/raw/v1.2/cards/p.png) [c](https://x.org/r/blob/v1.2/cards/c.md#top) "
        "[h](#here) [w](https://a.b/c) [m](mailto:a@b)"
    )
    text = setup.absolute((ROOT / "README.md").read_text("utf-8"), "https://x.org/r", "1.2")
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert len(targets) > 10
    assert not [target for target in targets if not target.startswith(("#", "https://"))]


def test_the_console_scripts(built: Path) -> None:
    """That of `baselines` is in `metaevents`, which checks which `baselines` Python finds."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        text = archive.read(name).decode()
    assert text.splitlines() == [
        "[console_scripts]",
        "metaevents = metaevents.__main__:main",
        "metaevents-baselines = metaevents.cli.baselines:main",
    ]


def test_the_installed_wheel_works_elsewhere(
    built: Path, nmnist_root: Path, tmp_path: Path
) -> None:
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    code = (
        "import metaevents as me, sys\n"
        f"assert me.__file__.startswith({str(target)!r}), me.__file__\n"
        f"ds = me.DoubleNMNIST({str(nmnist_root)!r}, split='test')\n"
        "print(me.EpisodeLoader(ds, queries=5)[0].query_x.shape)"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "25, 100, 2, 16, 32" in done.stdout


# --- constraints, citation, release --------------------------------------------------------------


def lower_bounds() -> dict[str, str]:
    """Name -> lower bound of the package's dependencies, and of what runs its tests."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    tests = [text for text in project["optional-dependencies"]["test"] if "numba" not in text]
    bounds = {}
    for text in (*project["dependencies"], *tests):
        requirement = Requirement(text)
        lower = [each.version for each in requirement.specifier if each.operator == ">="]
        if text in project["dependencies"] or requirement.name in ("pytest", "hypothesis"):
            assert len(lower) == 1, f"{text} has no lower bound"
            bounds[requirement.name] = lower[0]
    return bounds


def test_the_lowest_versions_that_ci_tests_are_the_lower_bounds() -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    expected = {name: re.sub(r"^(\d+\.\d+)$", r"\1.0", v) for name, v in lower_bounds().items()}
    assert pins == expected


@pytest.mark.parametrize(
    ("python", "machine", "implementation", "installed"),
    [
        ("3.10", "x86_64", "cpython", True),
        ("3.11", "AMD64", "cpython", True),
        ("3.11", "arm64", "cpython", False),
        ("3.11", "aarch64", "cpython", False),
        ("3.11", "x86_64", "pypy", False),
        ("3.12", "x86_64", "cpython", False),
        ("3.13", "AMD64", "cpython", False),
    ],
)
def test_tonic_is_asked_for_where_it_installs_from_wheels(
    python: str, machine: str, implementation: str, installed: bool
) -> None:
    """Its dependency expelliarmus 1.1.12 has wheels for CPython 3.10 and 3.11 on x86."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    (line,) = re.findall(r'^    "(tonic>=.*)",$', text, re.MULTILINE)
    marker = Requirement(line).marker
    assert marker
    environment = {
        "python_version": python,
        "platform_machine": machine,
        "implementation_name": implementation,
    }
    assert marker.evaluate(environment) is installed


def test_the_citation_has_what_a_bibtex_entry_needs() -> None:
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    for line in ("cff-version: 1.2.0", "title: .+", "type: software", "authors:"):
        assert re.search(f"^{line}$", text, re.MULTILINE), line
    assert f"\nversion: {me.__version__}\n" in text
    assert re.search(r"^date-released: \d{4}-\d\d-\d\d$", text, re.MULTILINE)


def test_a_release_must_be_described(tmp_path: Path) -> None:
    release = load(".ci/release.py")
    (tmp_path / "metaevents").mkdir()
    files = {
        "metaevents/_version.py": '__version__ = "1.2.3"\n',
        "CITATION.cff": "version: 1.2.3\ndate-released: 2030-01-31\nrepository-code: https://a.b\n",
        "CHANGELOG.md": "# Changelog\n\n## 1.2.3 (2030-01-31)\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert release.problems("v1.2.3", tmp_path) == []
    assert "the tag is v1.2.4" in release.problems("v1.2.4", tmp_path)[0]
    for name, old, new, problem in (
        ("CITATION.cff", "version: 1.2.3", "version: 1.2.2", "does not name version 1.2.3"),
        ("CITATION.cff", "2030-01-31", "2030-02-01", "no heading `## 1.2.3 (2030-02-01)`"),
        ("CITATION.cff", "repository-code:", "url:", "no line `repository-code:`"),
        ("CHANGELOG.md", "2030-01-31", "unreleased", "no heading `## 1.2.3 (2030-01-31)`"),
    ):
        (tmp_path / name).write_text(files[name].replace(old, new))
        (found,) = release.problems("v1.2.3", tmp_path)
        assert problem in found
        (tmp_path / name).write_text(files[name])
