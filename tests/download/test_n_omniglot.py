"""N-Omniglot from a server with Figshare's record, from given archives and from given folders."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support.downloads import QUICK, checksum, tree, visible
from support.http_server import Answer, MisbehavingServer
from support.rar import install_fake_unrar, rar_of

from metaevents.download import fetch_n_omniglot, fetch_recordings
from metaevents.download.http import RemoteFile
from metaevents.errors import FetchError, MissingError
from metaevents.specs import get_spec

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the program of these tests is a script of POSIX systems"
)

EXPECTED = {"dvs_background_1": 2, "dvs_background_2": 1, "dvs_evaluation": 1}
CHARACTERS = {
    "dvs_background_1": ["Greek/character01", "Greek/character02"],
    "dvs_background_2": ["Latin/character01"],
    "dvs_evaluation": ["ULOG/character26"],
}


def files_of(folder: str) -> dict[str, bytes]:
    """The files of a part: their contents do not matter here."""
    return {
        f"{label}/0001{suffix}": f"{label}{suffix}".encode()
        for label in CHARACTERS[folder]
        for suffix in (".aedat4", ".csv")
    }


ARCHIVES = {
    f"{folder}.rar": rar_of(
        {**{f"{folder}/{path}": data for path, data in files_of(folder).items()}, "README": b"x"}
    )
    for folder in CHARACTERS
}
WHOLE = {
    f"{folder}/{path}": data for folder in CHARACTERS for path, data in files_of(folder).items()
}


@pytest.fixture(autouse=True)
def _unrar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_fake_unrar(tmp_path / "bin", monkeypatch)


def record_of(**changes: Any) -> bytes:
    entries = [
        {"name": name, "size": len(data), "computed_md5": checksum(data)[4:]} | changes
        for name, data in ARCHIVES.items()
    ]
    return json.dumps({"id": 16821427, "files": entries}).encode()


def publish(server: MisbehavingServer, record: bytes | None = None) -> dict[str, Any]:
    """Serve archives and record; returns the arguments of `fetch_n_omniglot`."""
    for name, data in ARCHIVES.items():
        server.serve(name, data)
    server.serve("16821427", record_of() if record is None else record)
    files = [
        RemoteFile(name, (f"{server.url}/{name}",), None, len(data))
        for name, data in ARCHIVES.items()
    ]
    return {
        "files": files,
        "record": f"{server.url}/16821427",
        "expected": EXPECTED,
        "retry": QUICK,
    }


def test_the_archives_arrive_in_the_official_layout(
    server: MisbehavingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = publish(server)
    root = tmp_path / "root"
    folder = fetch_n_omniglot(root, **options)
    assert folder == root / "n-omniglot"
    assert tree(folder) == WHOLE
    assert visible(root) == ["downloads", "n-omniglot"]
    assert visible(root / "downloads") == sorted(ARCHIVES)
    requests = len(server.log)
    assert fetch_n_omniglot(root, **options) == folder
    assert len(server.log) == requests
    assert caplog.text == ""


def test_the_checksum_is_that_of_the_record(server: MisbehavingServer, tmp_path: Path) -> None:
    options = publish(server, record_of(computed_md5="0" * 32))
    with pytest.raises(FetchError, match=r"has the MD5 .*expected 0000") as caught:
        fetch_n_omniglot(tmp_path / "root", **options)
    assert "metaevents download n-omniglot --root" in str(caught.value)


def test_a_broken_transfer_is_resumed(server: MisbehavingServer, tmp_path: Path) -> None:
    options = publish(server)
    name = "dvs_evaluation.rar"
    server.serve(name, ARCHIVES[name], Answer(cut_after=50))
    fetch_n_omniglot(tmp_path / "root", **options)
    assert [request.range for request in server.requests(name)] == [None, "bytes=50-"]


@pytest.mark.parametrize(
    "record",
    [b"<html>", b"[]", b"{}", b'{"files": [1]}', b'{"files": [{"name": "a"}]}', b"[" * 100_000],
)
def test_without_a_record_sizes_are_checked_and_a_warning_says_so(
    server: MisbehavingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, record: bytes
) -> None:
    folder = fetch_n_omniglot(tmp_path / "root", **publish(server, record))
    assert tree(folder) == WHOLE
    assert "is no record of Figshare" in caplog.text
    assert "the sizes of the archives are checked, their checksums are not" in caplog.text


def test_a_record_that_cannot_be_reached_is_no_obstacle(
    server: MisbehavingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = publish(server) | {"record": f"{server.url}/other"}
    assert tree(fetch_n_omniglot(tmp_path / "root", **options)) == WHOLE
    assert "HTTP 404" in caplog.text


def test_a_record_of_another_version_is_refused(server: MisbehavingServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"has 7 bytes in the record .* published another version"):
        fetch_n_omniglot(tmp_path / "root", **publish(server, record_of(size=7)))


def test_an_archive_without_characters_is_refused_and_the_others_are_kept(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    wrong = rar_of({"dvs_evaluation/readme.txt": b"x"})
    name = "dvs_evaluation.rar"
    options = publish(server, b"")
    files = [f for f in options["files"] if f.name != name]
    server.serve(name, wrong)
    broken = [*files, RemoteFile(name, (f"{server.url}/{name}",), None, len(wrong))]
    root = tmp_path / "root"
    with pytest.raises(FetchError, match=r"holds no <alphabet>/character<NN>"):
        fetch_n_omniglot(root, **options | {"files": broken})
    assert not (root / "n-omniglot").exists()
    (root / "downloads" / name).unlink()
    server.serve(name, ARCHIVES[name])
    assert tree(fetch_n_omniglot(root, **options)) == WHOLE
    assert len(server.requests("dvs_background_1.rar")) == 1


def test_given_archives_are_recognized_by_name_or_size(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    options = publish(server)
    given = tmp_path / "given"
    given.mkdir()
    (given / "31104472").write_bytes(ARCHIVES["dvs_background_1.rar"])
    (given / "dvs_background_2.rar").write_bytes(ARCHIVES["dvs_background_2.rar"])
    (given / "notes.txt").write_bytes(b"text")
    single = tmp_path / "evaluation"
    single.write_bytes(ARCHIVES["dvs_evaluation.rar"])
    folder = fetch_n_omniglot(tmp_path / "root", given=[given, single], **options)
    assert tree(folder) == WHOLE
    assert [request.path for request in server.log] == ["/16821427"]


def test_a_given_archive_with_a_wrong_byte_is_refused(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    wrong = bytearray(ARCHIVES["dvs_evaluation.rar"])
    wrong[-20] ^= 1
    path = tmp_path / "dvs_evaluation.rar"
    path.write_bytes(wrong)
    with pytest.raises(FetchError, match="has the MD5"):
        fetch_n_omniglot(tmp_path / "root", given=[path], **publish(server))
    assert path.read_bytes() == wrong


def test_a_given_folder_of_the_official_layout_is_used_where_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"files": [], "record": "http://127.0.0.1:1", "expected": EXPECTED}
    given = tmp_path / "given"
    for path, data in WHOLE.items():
        (given / path).parent.mkdir(parents=True, exist_ok=True)
        (given / path).write_bytes(data)
    assert fetch_n_omniglot(tmp_path / "root", given=[given], **options) == given
    assert "metaevents build --source" in caplog.text
    assert "not the official dataset" not in caplog.text
    (given / "dvs_background_1").rename(given / "dvs_background")
    shutil.rmtree(given / "dvs_background_2")
    fetch_n_omniglot(tmp_path / "root", given=[given], **options)
    assert "dvs_background 2 of 3" in caplog.text
    assert not (tmp_path / "root").exists()


def test_what_is_no_archive_and_no_folder_is_refused(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    options = publish(server)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.rar").write_bytes(b"no archive")
    for name in ("empty", "other.rar"):
        with pytest.raises(FetchError, match=r"is none of dvs_background_1\.rar"):
            fetch_n_omniglot(tmp_path / "root", given=[tmp_path / name], **options)
    with pytest.raises(MissingError, match="no file or folder"):
        fetch_n_omniglot(tmp_path / "root", given=[tmp_path / "absent"], **options)


def test_nothing_is_downloaded_if_no_program_could_unpack_it(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metaevents.download import rar

    monkeypatch.setattr(rar, "_PROGRAMS", [])
    with pytest.raises(MissingError, match="no program that unpacks RAR archives is installed"):
        fetch_n_omniglot(tmp_path / "root", **publish(server))
    assert not server.log


def test_a_link_in_an_archive_is_left_out(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    link = (
        "target = pathlib.Path(folder) / 'Greek/character09'\n"
        "target.mkdir(parents=True)\n"
        f"(target / '0009.csv').symlink_to({str(secret)!r})"
    )
    install_fake_unrar(tmp_path / "bin", monkeypatch, extra=link)
    folder = fetch_n_omniglot(tmp_path / "root", **publish(server))
    assert tree(folder) == WHOLE


def test_fetch_recordings_follows_the_package_file(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    options = publish(server)
    published = [
        {"name": file.name, "url": file.urls[0], "checksum": None, "size": file.size}
        for file in options["files"]
    ]
    recordings = {
        **get_spec("n-omniglot").recordings,
        "files": published,
        "figshare": {"record": options["record"], "characters": EXPECTED},
    }
    folder = fetch_recordings(recordings, tmp_path / "root", retry=QUICK)
    assert folder == tmp_path / "root" / "n-omniglot"


def test_the_package_file_has_an_archive_per_part() -> None:
    recordings = get_spec("n-omniglot").recordings
    characters = recordings["figshare"]["characters"]
    assert [file["name"] for file in recordings["files"]] == [f"{name}.rar" for name in characters]
    assert 20 * sum(characters.values()) == sum(recordings["counts"].values())
