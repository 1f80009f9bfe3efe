"""Commands on recordings and archives as a user meets them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import error_line, run
from support.recordings import asl_columns, random_events, write_mat, write_nmnist

import metaevents as me
from metaevents.cli import main
from metaevents.specs import PARTITIONS, get_spec, specs


@pytest.mark.parametrize(
    ("command", "choices"),
    [
        ("build", set(specs())),
        ("download", {get_spec(name).recordings["folder"] for name in specs()}),
        ("show", set(PARTITIONS)),
    ],
)
def test_the_choices_of_a_command_are_those_of_the_package_files(
    command: str, choices: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    listed = re.search(r"{(.+?)}", capsys.readouterr().out)
    assert listed
    assert set(listed[1].split(",")) == choices


# --- build, info, verify, clean ------------------------------------------------------------------


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
    info = json.loads(done.stdout)
    assert info["recordings"] == 360
    assert info["fingerprint"] == me.Archive(info["archive"]).fingerprint


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
    assert "copy or build it again" in error_line(capsys, "verify", path)


def test_clean_removes_what_decoding_left(built: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "METAEVENTS_CACHE": str(tmp_path)}
    code = f"import metaevents as me; me.DoubleNMNIST({str(built)!r}).frames(0, 0, 0)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    info = json.loads(run("info", built, "--json", env=environment).stdout)
    (side,) = info["side_files"]
    assert Path(side["path"]).is_dir()
    assert side["bytes"] > 0
    done = run("clean", env=environment)
    assert done.stdout.startswith(f"{side['bytes']:,} bytes")
    assert not Path(side["path"]).exists()


# --- errors of the user --------------------------------------------------------------------------


def prepare(kind: str, folder: Path, built: Path) -> Path:
    """Make a file or folder that is wrong in one way; of another kind, give a missing path."""
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
    return path


ERRORS = [
    # kind of thing, arguments with {thing} and {out}, what the line must say
    ("nothing", "info {thing}", "no archive"),
    ("folder", "info {thing}", "is a folder"),
    ("text", "info {thing}", "is no metaevents archive"),
    ("empty", "info {thing}", "is no metaevents archive"),
    ("truncated archive", "info {thing}", "truncated"),
    ("newer format", "info {thing}", "archive format 9, this release reads 1 and 2; upgrade"),
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
    ("no jobs", "build double-nmnist --root {out} --source {thing} --jobs 0", "--jobs: '0'; give"),
    ("both", "build double-nmnist --root {out} --source {thing} --simulated", "give one of them"),
    ("dataset", "build mnist --root {out}", "invalid choice: 'mnist'"),
    ("no root", "build double-nmnist", "--root"),
    ("set", "download mnist --root {out}", "invalid choice: 'mnist'"),
    ("text", "clean {thing}", "is no metaevents archive"),
]


@pytest.mark.parametrize(("kind", "arguments", "message"), ERRORS)
def test_every_error_of_the_user_is_one_line_and_status_2(
    kind: str,
    arguments: str,
    message: str,
    built: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    thing = prepare(kind, tmp_path, built)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    words = [
        word.format(thing=thing, out=tmp_path / "out", built=built) for word in arguments.split()
    ]
    assert message in error_line(capsys, *words)
    assert all(path.read_bytes() == content for path, content in before.items()), (
        "no file of the user was changed"
    )
    assert not list((tmp_path / "out").glob("*.h5"))


def test_an_archive_that_exists_is_kept(
    built: Path, nmnist_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = built.read_bytes()
    line = error_line(
        capsys, "build", "double-nmnist", "--root", built.parent, "--source", nmnist_folder
    )
    assert "exists and was not changed; pass --force to replace it" in line
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


def test_force_replaces_the_target_of_a_link_and_keeps_the_link(
    built: Path, nmnist_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "double-nmnist.h5"
    link.symlink_to("disk/old.h5")
    link.write_bytes(b"old")
    words = ["build", "double-nmnist", "--root", str(tmp_path), "--source", str(nmnist_folder)]
    assert main([*words, "--force"]) == 0
    assert link.is_symlink()
    assert (tmp_path / "disk" / "old.h5").read_bytes() == built.read_bytes()


def test_a_root_that_takes_no_archive_is_found_out_before_recordings_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import metaevents.simulation.writers as writers

    monkeypatch.setattr(writers, "simulate_recordings", lambda *_, **__: pytest.fail("too late"))
    (tmp_path / "file").write_text("text")
    for root in (tmp_path / "file", tmp_path / "file" / "deeper", Path("/proc")):
        if root.parent.exists():
            error_line(capsys, "build", "double-nmnist", "--root", root, "--simulated")


def test_commands_to_copy_are_quoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], nmnist_folder: Path
) -> None:
    root = tmp_path / "it's a; folder"
    line = error_line(capsys, "build", "double-nmnist", "--root", root)
    assert shlex.split(line.split("`")[1])[-2:] == ["--root", str(root)]
    with pytest.raises(me.MetaeventsError) as error:
        me.DoubleNMNIST(root, split="test")
    commands = str(error.value).split("`")[1::2]
    assert [shlex.split(command)[-1] for command in commands] == [str(root)] * 2
    words = ["download", "nmnist", "--root", str(root), "--from", str(nmnist_folder)]
    assert main(words) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(last.removeprefix("next: "))[:5] == [
        *("metaevents", "build", "double-nmnist", "--root", str(root)),
    ]


# --- download ------------------------------------------------------------------------------------


def test_download_takes_a_folder_that_is_there_and_names_the_next_command(
    nmnist_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "nmnist", "--root", str(tmp_path), "--from", str(nmnist_folder)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: metaevents ")
    assert main(last.removeprefix("next: metaevents ").split()) == 0
    assert len(me.Archive(tmp_path / "double-nmnist.h5")) == 360
