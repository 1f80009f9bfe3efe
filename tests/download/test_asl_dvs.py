"""ASL-DVS from zips, folders, mirrors and the client of OpenI."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.downloads import QUICK, tree, visible, zip_of
from support.http_server import Answer, MisbehavingServer
from support.processes import STOP_IN_THE_MIDDLE, kill_in_the_middle, start
from support.recordings import LETTERS, LITTER

from metaevents.download import asl_dvs, fetch_recordings
from metaevents.download.asl_dvs import fetch_asl_dvs
from metaevents.download.http import RetryPolicy
from metaevents.errors import FetchError, MissingError, UsageError
from metaevents.sources import ASLDVS
from metaevents.specs import get_spec

TAKE_ASL = """
from metaevents.download.asl_dvs import fetch_asl_dvs
expected = dict.fromkeys("abcdefghiklmnopqrstuvwxy", 10)
fetch_asl_dvs(sys.argv[2], dataset="", filename="", expected=expected, given=[sys.argv[3]])
"""

ASL: dict[str, Any] = {
    "dataset": "OpenI/ASLDVS",
    "filename": "outer.zip",
    "expected": dict.fromkeys(LETTERS, 10),
    "dead_links": ("https://dead.example.org/asl",),
    "retry": QUICK,
}


@pytest.fixture(scope="session")
def inner_zips(asl_folder: Path) -> dict[str, bytes]:
    """Letters' zips, some with a leading folder, one with litter."""
    zips = {}
    for letter in LETTERS:
        lead = f"Yin Bi - {letter}/" if letter in "bcd" else ""
        members = {f"{lead}{name}": data for name, data in tree(asl_folder / letter).items()}
        litter = {"__MACOSX/._a_0001.mat": b"x", "thumbs.db": b"x"} if letter == "a" else {}
        zips[f"Yin Bi - {letter}.zip"] = zip_of({**members, **litter}, zipfile.ZIP_STORED)
    return zips


@pytest.fixture(scope="session")
def outer_zip(inner_zips: dict[str, bytes]) -> bytes:
    members = {
        "/": b"",
        **{f"ICCV2019_DVS_dataset/{name}": data for name, data in inner_zips.items()},
    }
    return zip_of({**members, "__MACOSX/._Yin Bi - a.zip": b"x"})


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_asl_dvs_from_the_outer_zip(tmp_path: Path, outer_zip: bytes, asl_folder: Path) -> None:
    given = write(tmp_path / "given", {"any name": outer_zip}) / "any name"
    folder = fetch_asl_dvs(tmp_path / "root", given=[given], **ASL)
    assert folder == tmp_path / "root" / "asl-dvs"
    assert tree(folder) == tree(asl_folder)
    assert len(ASLDVS(folder).recordings()) == 240
    assert visible(tmp_path / "root") == ["asl-dvs"]
    assert fetch_asl_dvs(tmp_path / "root", **ASL) == folder


def test_asl_dvs_from_the_letters_zips_or_a_folder_of_them(
    tmp_path: Path, inner_zips: dict[str, bytes], asl_folder: Path
) -> None:
    given = write(tmp_path / "given", inner_zips)
    assert tree(fetch_asl_dvs(tmp_path / "one", given=[given], **ASL)) == tree(asl_folder)
    assert tree(fetch_asl_dvs(tmp_path / "two", given=sorted(given.iterdir()), **ASL)) == tree(
        asl_folder
    )


def test_asl_dvs_from_zips_in_the_root_itself(
    tmp_path: Path, inner_zips: dict[str, bytes], asl_folder: Path
) -> None:
    root = write(tmp_path / "root", {**inner_zips, "._Yin Bi - a.zip": b"litter"})
    assert tree(fetch_asl_dvs(root, given=[root], **ASL)) == tree(asl_folder)


def test_asl_dvs_folder_that_lacks_letters_is_an_error(tmp_path: Path, asl_folder: Path) -> None:
    shutil.copytree(asl_folder, tmp_path / "asl-dvs")
    shutil.rmtree(tmp_path / "asl-dvs" / "k")
    with pytest.raises(FetchError, match="no recordings of k; move it away"):
        fetch_asl_dvs(tmp_path, **ASL)


def test_asl_dvs_from_one_zip_of_all_letters(tmp_path: Path, asl_folder: Path) -> None:
    given = write(
        tmp_path / "given", {"repacked.zip": zip_of(tree(asl_folder), zipfile.ZIP_STORED)}
    )
    assert tree(fetch_asl_dvs(tmp_path / "root", given=[given / "repacked.zip"], **ASL)) == tree(
        asl_folder
    )


def test_asl_dvs_uses_unpacked_letters_where_they_are(
    tmp_path: Path, asl_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**ASL, "expected": {**ASL["expected"], "c": 4_200}}
    assert fetch_asl_dvs(tmp_path / "root", given=[asl_folder], **options) == asl_folder
    assert f"metaevents build --source {asl_folder}" in caplog.text
    assert "c 10 of 4,200" in caplog.text
    assert not (tmp_path / "root").exists()


def test_asl_dvs_from_letters_partly_unpacked_and_partly_not(
    tmp_path: Path, inner_zips: dict[str, bytes], asl_folder: Path
) -> None:
    packed = write(
        tmp_path / "packed", {name: data for name, data in inner_zips.items() if name[-5] < "m"}
    )
    for letter in LETTERS[11:]:
        write(tmp_path / "unpacked" / f"Yin Bi - {letter}", tree(asl_folder / letter))
    folder = fetch_asl_dvs(tmp_path / "root", given=[packed, tmp_path / "unpacked"], **ASL)
    assert tree(folder) == tree(asl_folder)
    assert (folder / "y" / "y_0001.mat").samefile(
        tmp_path / "unpacked" / "Yin Bi - y" / "y_0001.mat"
    )


def test_asl_dvs_with_endings_in_upper_case_and_litter(
    tmp_path: Path, asl_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    letters = {
        letter: {
            **{
                name.replace(".mat", ".MAT"): data
                for name, data in tree(asl_folder / letter).items()
            },
            **dict.fromkeys(LITTER, b"litter"),
        }
        for letter in LETTERS
    }
    litter = {"__MACOSX/a_0001.mat": b"x", "@eaDir/a_0002.mat": b"x", ".x/Yin Bi - a.zip": b"x"}
    zips = {f"YIN BI - {letter}.ZIP": zip_of(files) for letter, files in letters.items()}
    outer = write(tmp_path / "given", {"outer": zip_of({**zips, **litter})}) / "outer"
    folder = fetch_asl_dvs(tmp_path / "packed", given=[outer], **ASL)
    for letter, files in letters.items():
        write(tmp_path / "unpacked" / letter, files)
    (tmp_path / "unpacked" / "@eaDir").mkdir()
    assert fetch_asl_dvs(tmp_path, given=[tmp_path / "unpacked"], **ASL) == tmp_path / "unpacked"
    (tmp_path / "unpacked" / "a").rename(tmp_path / "unpacked" / "letter a")
    linked = fetch_asl_dvs(tmp_path / "linked", given=[tmp_path / "unpacked"], **ASL)
    for place in (folder, linked):
        assert len(ASLDVS(place).recordings()) == 240
        assert {key.lower(): data for key, data in tree(place).items()} == tree(asl_folder)
    assert "not the official dataset" not in caplog.text


def test_asl_dvs_refuses_two_files_that_differ_in_case_alone(
    tmp_path: Path, asl_folder: Path
) -> None:
    write(tmp_path / "given" / "one", tree(asl_folder / "a"))
    write(tmp_path / "given" / "two", {"a_0001.MAT": b"other"})
    with pytest.raises(FetchError, match=r"a_0001\.mat twice"):
        fetch_asl_dvs(tmp_path / "root", given=[tmp_path / "given"], **ASL)


def test_asl_dvs_refuses_zips_that_unpack_to_too_much_together(
    tmp_path: Path, outer_zip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asl_dvs, "_OUTER_LIMIT", len(outer_zip) // 2)
    given = write(tmp_path / "given", {"outer": outer_zip}) / "outer"
    with pytest.raises(FetchError, match="unpacks to more than the limit"):
        fetch_asl_dvs(tmp_path / "root", given=[given], **ASL)


def test_asl_dvs_for_the_home_of_nobody_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be used as a path"):
        fetch_asl_dvs("~no-such-user/x", **ASL)
    with pytest.raises(UsageError, match="cannot be used as a path"):
        fetch_asl_dvs(tmp_path, given=["~no-such-user/x"], **ASL)


def test_asl_dvs_keeps_the_letters_it_has_and_names_those_it_lacks(
    tmp_path: Path, inner_zips: dict[str, bytes], asl_folder: Path
) -> None:
    given = write(tmp_path / "given", inner_zips)
    rest = {name: inner_zips[name] for name in ("Yin Bi - k.zip", "Yin Bi - y.zip")}
    for name in rest:
        (given / name).unlink()
    with pytest.raises(FetchError, match=r"of k, y in .* --from FILE_OR_DIR"):
        fetch_asl_dvs(tmp_path / "root", given=[given], **ASL)
    assert not (tmp_path / "root" / "asl-dvs").exists()
    # Letters that are kept are not unpacked again, so that a damaged zip of one does no harm.
    (tmp_path / "rest.zip").write_bytes(zip_of({**rest, "Yin Bi - a.zip": b"damaged"}))
    assert tree(fetch_asl_dvs(tmp_path / "root", given=[tmp_path / "rest.zip"], **ASL)) == tree(
        asl_folder
    )


def test_asl_dvs_continues_after_a_process_was_killed(
    tmp_path: Path, outer_zip: bytes, asl_folder: Path
) -> None:
    (tmp_path / "outer.zip").write_bytes(outer_zip)
    with start(
        STOP_IN_THE_MIDDLE + TAKE_ASL, 30, tmp_path / "root", tmp_path / "outer.zip"
    ) as process:
        kill_in_the_middle(process)
    assert not (tmp_path / "root" / "asl-dvs").exists()
    for letter in LETTERS[1:]:
        write(tmp_path / "given" / letter, tree(asl_folder / letter))
    folder = fetch_asl_dvs(tmp_path / "root", given=[tmp_path / "given"], **ASL)
    assert tree(folder) == tree(
        asl_folder
    )  # "a" is the killed process's, and nothing else of it is there


def test_asl_dvs_warns_of_another_number_of_files(
    tmp_path: Path, inner_zips: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    given = write(tmp_path / "given", inner_zips)
    with caplog.at_level(logging.WARNING):
        fetch_asl_dvs(
            tmp_path / "root", given=[given], **{**ASL, "expected": {**ASL["expected"], "e": 4_200}}
        )
    assert "e 10 of 4,200" in caplog.text


def test_asl_dvs_names_the_inner_zip_that_is_damaged(
    tmp_path: Path, inner_zips: dict[str, bytes]
) -> None:
    zips = {**inner_zips, "Yin Bi - f.zip": inner_zips["Yin Bi - f.zip"][:-100]}
    given = write(tmp_path / "given", {"outer.zip": zip_of(zips, zipfile.ZIP_STORED)})
    with pytest.raises(
        FetchError, match=r"Yin Bi - f\.zip in .*outer\.zip cannot be read as a zip"
    ):
        fetch_asl_dvs(tmp_path / "root", given=[given / "outer.zip"], **ASL)
    assert not (tmp_path / "root" / "asl-dvs").exists()


def test_asl_dvs_refuses_files_that_are_no_zips_and_duplicate_recordings(
    tmp_path: Path, asl_folder: Path
) -> None:
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(FetchError, match="cannot be read as a zip"):
        fetch_asl_dvs(tmp_path / "root", given=[tmp_path / "text.zip"], **ASL)
    for copy in ("one", "two"):
        write(tmp_path / "given" / copy, tree(asl_folder / "a"))
    with pytest.raises(FetchError, match=r"a_0001\.mat twice"):
        fetch_asl_dvs(tmp_path / "root", given=[tmp_path / "given"], **ASL)
    with pytest.raises(MissingError, match="no file or folder"):
        fetch_asl_dvs(tmp_path / "root", given=[tmp_path / "absent"], **ASL)


def test_asl_dvs_from_a_mirror(
    server: MisbehavingServer, tmp_path: Path, outer_zip: bytes, asl_folder: Path
) -> None:
    server.serve("outer.zip", outer_zip, Answer(cut_after=len(outer_zip) // 2))
    assert tree(fetch_asl_dvs(tmp_path, mirrors=[server.url], **ASL)) == tree(asl_folder)
    assert [request.status for request in server.log] == [200, 206]


def test_asl_dvs_of_a_dead_mirror_falls_back_to_openi_or_says_why_not(
    server: MisbehavingServer,
    openi: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asl_folder: Path,
) -> None:
    monkeypatch.setenv("SUCCEEDS_AT", "1")
    assert tree(fetch_asl_dvs(tmp_path / "root", mirrors=[server.url], **ASL)) == tree(asl_folder)
    monkeypatch.setattr(asl_dvs, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match="HTTP 404 Not Found"):
        fetch_asl_dvs(tmp_path / "other", mirrors=[server.url], **ASL)


def test_asl_dvs_without_the_openi_client_says_what_to_install_and_what_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asl_dvs, "find_spec", lambda name: None)
    with pytest.raises(MissingError) as caught:
        fetch_recordings(get_spec("double-asl-dvs").recordings, tmp_path)
    text = str(caught.value)
    for part in (
        "pip install 'metaevents[openi]'",
        f"metaevents download asl-dvs --root {tmp_path} --from",
        "https://www.dropbox.com/sh/ibq0jsicatn7l6r/AACNrNELV56rs1YInMWUs9CAa",
        "Google Drive",
    ):
        assert part in text
    assert "\n" not in text


CLIENT = """
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--local_dir") + 1])
calls = pathlib.Path(os.environ["CALLS"])
with calls.open("a") as log:
    print(json.dumps(sys.argv[1:]), file=log)
if len(calls.read_text().splitlines()) < int(os.environ["SUCCEEDS_AT"]):
    print("\\x1b[31mconnection lost\\x1b[0m")
    sys.exit(0)
data = pathlib.Path(os.environ["OUTER"]).read_bytes()
(folder / ".openi--cache--outer.zip").write_bytes(data)
(folder / ".openi--cache--outer.zip").rename(folder / "outer.zip")
"""


@pytest.fixture
def openi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outer_zip: bytes) -> Path:
    """A stand-in for the OpenI client. Returns the file in which it logs its arguments."""
    package = tmp_path / "site" / "openi" / "commands"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "openi_cli.py").write_text(CLIENT)
    (tmp_path / "outer").write_bytes(outer_zip)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("OUTER", str(tmp_path / "outer"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def test_asl_dvs_through_the_openi_client(
    openi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asl_folder: Path
) -> None:
    monkeypatch.setenv("SUCCEEDS_AT", "2")
    root = tmp_path / "root"
    assert tree(fetch_asl_dvs(root, **ASL)) == tree(asl_folder)
    calls = [json.loads(line) for line in openi.read_text().splitlines()]
    assert len(calls) == 2
    assert calls[0][:3] == ["dataset", "download", "OpenI/ASLDVS"]
    assert calls[0][calls[0].index("--local_dir") + 1] == str(root / "downloads")
    assert visible(root) == ["asl-dvs", "downloads"]
    assert visible(root / "downloads") == ["outer.zip"]


def test_asl_dvs_says_how_to_continue_if_the_openi_client_fails(
    openi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUCCEEDS_AT", "99")
    with pytest.raises(FetchError) as caught:
        fetch_asl_dvs(tmp_path / "root", **{**ASL, "retry": RetryPolicy(retries=1, backoff=0.0)})
    text = str(caught.value)
    for part in (
        "(connection lost)",
        "`openi dataset download OpenI/ASLDVS --local_dir",
        "https://dead.example.org/asl is dead",
    ):
        assert part in text
    assert len(openi.read_text().splitlines()) == 2
    assert "\n" not in text
