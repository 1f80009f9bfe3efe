"""The command line as a user meets it: real processes, exit statuses, one line for every mistake."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.recordings import asl_columns, random_events, write_mat, write_nmnist

import metaevents as me
from metaevents.cli import main

Run = subprocess.CompletedProcess[str]


def run(*arguments: object, **options: Any) -> Run:
    command = [sys.executable, "-m", "metaevents", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The line that a mistake prints; it must be one line, on stderr alone, with exit status 2."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse
        status = int(stop.code or 0)
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert printed.err.endswith("\n")
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    return printed.err


# --- the five commands ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(nmnist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "data"
    done = run("build", "double-nmnist", "--root", root, "--source", nmnist_folder, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert "360 recordings (n-mnist-subset)" in done.stdout
    assert done.stderr == "", "no progress bar where there is no terminal"
    return root / "double-nmnist.h5"


def test_build_writes_the_archive_that_the_package_reads(built: Path) -> None:
    assert me.DoubleNMNIST(built.parent, split="test").archive.path == built


def test_build_says_in_json_what_it_built(nmnist_folder: Path, tmp_path: Path) -> None:
    done = run(
        "build",
        "double-nmnist",
        "--root",
        tmp_path,
        "--source",
        nmnist_folder,
        "--json",
        "--jobs",
        1,
    )
    told = json.loads(done.stdout)
    assert told["recordings"] == 360
    assert told["fingerprint"] == me.Archive(told["archive"]).fingerprint


def test_info_says_what_an_archive_holds(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(built)]) == 0
    text = capsys.readouterr().out
    for part in (
        "double-nmnist, protocol version 1",
        "n-mnist-subset",
        "34 x 34 pixels",
        "CC BY-SA 4.0",
        "Orchard",
    ):
        assert part in text
    assert main(["info", str(built), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["recordings_per_label"]["val"]["7"] == 12
    assert facts["fingerprint"] == me.Archive(built).fingerprint
    assert not any(row["fits"] for row in facts["episodes"]), (
        "12 recordings a digit are too few for 15 queries"
    )
    assert any("queries=10 would fit" in row["why"] for row in facts["episodes"])


def test_verify_checks_everything(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(built)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("ok  ") for line in lines)
    assert main(["verify", str(built), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == me.Archive(built).fingerprint


def test_verify_finds_damage(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.h5"
    content = bytearray(built.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "copy or build it again" in complaint(capsys, "verify", path)


@pytest.mark.parametrize("ending", [".png", ".gif"])
def test_show_draws_what_was_asked_for(built: Path, tmp_path: Path, ending: str) -> None:
    from PIL import Image

    out = tmp_path / "deeper" / f"figure{ending}"
    assert main(["show", str(built), "--classes", "35,72", "--out", str(out)]) == 0
    with Image.open(out) as image:
        assert image.width > 500
        frames = getattr(image, "n_frames", 1)
        colors = {color for _, color in image.convert("RGB").getcolors(1 << 24) or []}
    assert frames == (25 if ending == ".gif" else 1)
    reds = [c for c in colors if c[0] > c[2] + 60]
    blues = [c for c in colors if c[2] > c[0] + 60]
    assert reds, "ON events have a color"
    assert blues, "OFF events have another"


def test_show_takes_recordings_of_one_split(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    assert main(["show", str(built), "--split", "test", "--out", str(out)]) == 0
    first = out.read_bytes()
    assert main(["show", str(built), "--split", "test", "--seed", "1", "--out", str(out)]) == 0
    assert out.read_bytes() != first


def test_clean_removes_what_decoding_left(built: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "METAEVENTS_CACHE": str(tmp_path)}
    code = f"import metaevents as me; me.DoubleNMNIST({str(built)!r}).frames(0, 0, 0)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    told = json.loads(run("info", built, "--json", env=environment).stdout)
    (side,) = told["side_files"]
    assert Path(side["path"]).is_dir()
    assert side["bytes"] > 0
    done = run("clean", env=environment)
    assert done.stdout.startswith(f"{side['bytes']:,} bytes")
    assert not Path(side["path"]).exists()


def test_both_entry_points_say_the_version() -> None:
    assert run("--version").stdout.strip() == f"metaevents {me.__version__}"
    script = Path(sys.executable).with_name("metaevents")
    if script.exists():
        assert subprocess.run(
            [script, "--version"], capture_output=True, text=True, check=True
        ).stdout.startswith("meta")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from metaevents.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'tonic', 'numpy', 'h5py', 'scipy', 'sklearn', 'numba', 'requests', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "COMMAND" in capsys.readouterr().out


def test_a_defect_of_ours_is_status_1_with_a_traceback(built: Path) -> None:
    code = (
        "import metaevents.archive as a, sys\n"
        "a.Archive.verify = lambda self: 1 / 0\n"
        "from metaevents.cli import main\n"
        f"sys.exit(main(['verify', {str(built)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


# --- the user's mistakes ----------------------------------------------------------------------------------------------


def prepare(kind: str, folder: Path, built: Path) -> Path:
    """A thing that is wrong in one way."""
    path = folder / "thing"
    if kind == "truncated archive":
        path.write_bytes(built.read_bytes()[:9000])
    elif kind == "text":
        path.write_text("no archive at all")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "newer format":
        head, rest = built.read_bytes()[:512], built.read_bytes()[512:]
        path.write_bytes(head.replace(b"recordings 1 ", b"recordings 9 ") + rest)
    elif kind == "newer protocol":
        import h5py

        from metaevents.archive.format import seal

        shutil.copy(built, path)
        with h5py.File(path, "r+") as file:
            file.attrs["protocol_version"] = 8
        seal(path)
    elif kind == "no digit":
        write_nmnist(path, 1, 1)
        (path / "Train" / "eleven").mkdir()
    elif kind == "half an event":
        write_nmnist(path, 1, 1)
        (path / "Train" / "0" / "00001.bin").write_bytes(b"123456")
    elif kind == "odd name":
        write_nmnist(path, 1, 1)
        (path / "Train" / "0" / "copy of 1.bin").write_bytes(b"12345")
    elif kind == "no pol":
        columns = asl_columns(random_events(1, 5, 240, 180))
        del columns["pol"]
        write_mat(path / "a" / "a_0001.mat", **columns)
    elif kind == "letter j":
        write_mat(path / "j" / "j_0001.mat", **asl_columns(random_events(1, 5, 240, 180)))
    elif kind == "folder":
        path.mkdir()
    else:
        assert kind == "nothing"
    return path


MISTAKES = [
    # thing, arguments with {thing} and {out}, what the line must say
    ("nothing", "info {thing}", "no archive"),
    ("folder", "info {thing}", "is a folder"),
    ("text", "info {thing}", "is no metaevents archive"),
    ("empty", "info {thing}", "is no metaevents archive"),
    ("truncated archive", "info {thing}", "truncated"),
    ("newer format", "info {thing}", "archive format 9, this release reads 1; upgrade"),
    ("newer protocol", "info {thing}", "protocol version 8"),
    ("truncated archive", "verify {thing}", "truncated"),
    ("text", "verify {thing}", "is no metaevents archive"),
    ("nothing", "show {thing} --out {out}/a.png", "no archive"),
    ("jpeg", "show {built} --out {out}/a.jpg", "name a .png or a .gif"),
    ("class", "show {built} --classes 3x --out {out}/a.png", "no class '3x'"),
    ("other split", "show {built} --classes 02 --split train --out {out}/a.png", "no class '02'"),
    ("nothing", "build double-nmnist --root {out} --source {thing}", "no folder"),
    ("text", "build double-nmnist --root {out} --source {thing}", "is a file"),
    ("folder", "build double-nmnist --root {out} --source {thing}", "neither Train nor Test"),
    ("folder", "build double-asl-dvs --root {out} --source {thing}", "no .mat file"),
    ("no digit", "build double-nmnist --root {out} --source {thing}", "no digit's folder"),
    (
        "half an event",
        "build double-nmnist --root {out} --source {thing}",
        "whole number of 5-byte events",
    ),
    ("odd name", "build double-nmnist --root {out} --source {thing}", "not named <number>.bin"),
    ("no pol", "build double-asl-dvs --root {out} --source {thing}", "lacks pol"),
    ("letter j", "build double-asl-dvs --root {out} --source {thing}", "without j"),
    ("no source", "build double-nmnist --root {out}", "metaevents download nmnist --root"),
    ("no jobs", "build double-nmnist --root {out} --source {thing} --jobs 0", "--jobs 0"),
    ("both", "build double-nmnist --root {out} --source {thing} --simulated", "give one of them"),
    ("dataset", "build mnist --root {out}", "invalid choice: 'mnist'"),
    ("no root", "build double-nmnist", "--root"),
    ("set", "download mnist --root {out}", "invalid choice: 'mnist'"),
    ("text", "clean {thing}", "is no metaevents archive"),
    ("command", "frobnicate", "invalid choice: 'frobnicate'"),
]


@pytest.mark.parametrize(("kind", "arguments", "message"), MISTAKES)
def test_every_mistake_is_one_line_and_status_2(
    kind: str,
    arguments: str,
    message: str,
    built: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {"nothing", "folder", "text", "empty", "truncated archive", "newer format", "newer protocol", "no digit",
             "half an event", "odd name", "no pol", "letter j"}  # fmt: skip
    thing = prepare(kind if kind in known else "nothing", tmp_path, built)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    words = [
        word.format(thing=thing, out=tmp_path / "out", built=built) for word in arguments.split()
    ]
    assert message in complaint(capsys, *words)
    assert all(path.read_bytes() == content for path, content in before.items()), (
        "nothing of the user's was touched"
    )
    assert not list((tmp_path / "out").glob("*.h5"))


def test_an_archive_that_exists_is_kept(
    built: Path, nmnist_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = built.read_bytes()
    line = complaint(
        capsys, "build", "double-nmnist", "--root", built.parent, "--source", nmnist_folder
    )
    assert "exists and was left as it is; pass --force to replace it" in line
    assert built.read_bytes() == before
    assert (
        main(
            [
                "build",
                "double-nmnist",
                "--root",
                str(built.parent),
                "--source",
                str(nmnist_folder),
                "--force",
            ]
        )
        == 0
    )
    assert built.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_reader_that_leaves_and_a_full_disk_are_no_tracebacks(built: Path) -> None:
    command = f"{sys.executable} -m metaevents info {built} | head -c 10"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "metaevents", "info", str(built)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 2
    assert "No space left" in process.stderr
    assert "Traceback" not in process.stderr


# --- from a download to a dataset -------------------------------------------------------------------------------------


def test_download_takes_a_folder_that_is_there_and_names_the_next_command(
    nmnist_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "nmnist", "--root", str(tmp_path), "--from", str(nmnist_folder)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: metaevents ")
    assert main(last.removeprefix("next: metaevents ").split()) == 0
    assert len(me.Archive(tmp_path / "double-nmnist.h5")) == 360


def test_download_true_fetches_and_builds_what_is_missing_once(
    nmnist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import metaevents.download

    asked: list[Path] = []

    def fetch(recordings: Any, root: Path) -> Path:
        asked.append(root)
        return nmnist_folder

    monkeypatch.setattr(metaevents.download, "fetch_recordings", fetch)
    for split in ("train", "test"):
        assert (
            me.DoubleNMNIST(tmp_path / "data", split=split, download=True).archive.source
            == "n-mnist-subset"
        )
    assert asked == [tmp_path / "data"]
