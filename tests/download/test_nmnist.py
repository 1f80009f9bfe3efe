"""N-MNIST from a server, from given zips and from given folders."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.downloads import QUICK, checksum, tree, visible, zip_of
from support.http_server import MisbehavingServer
from support.recordings import LITTER

from metaevents.download import fetch_recordings
from metaevents.download.http import RemoteFile, adopt
from metaevents.download.nmnist import fetch_nmnist
from metaevents.errors import FetchError, MissingError, UsageError
from metaevents.sources import NMNIST
from metaevents.specs import get_spec

NMNIST_COUNTS = {"Train": 120, "Test": 240}


@pytest.fixture(scope="session")
def nmnist_zips(nmnist_folder: Path) -> dict[str, bytes]:
    """Train.zip and Test.zip of the official layout, with extra files; one has a leading folder."""
    zips = {}
    for name, lead in (("Train", ""), ("Test", "n-mnist/")):
        members = {
            f"{lead}{name}/{path}": data for path, data in tree(nmnist_folder / name).items()
        }
        litter = {
            f"__MACOSX/{name}/0/._00001.bin": b"x",
            f"{lead}{name}/.DS_Store": b"x",
            "README.txt": b"x",
        }
        zips[f"{name}.zip"] = zip_of({**members, **litter}, zipfile.ZIP_STORED)
    return zips


def nmnist_files(zips: Mapping[str, bytes], url: str) -> list[RemoteFile]:
    return [RemoteFile(name, (f"{url}/{name}",), checksum(data)) for name, data in zips.items()]


def publish(server: MisbehavingServer, zips: Mapping[str, bytes]) -> list[RemoteFile]:
    for name, data in zips.items():
        server.serve(name, data)
    return nmnist_files(zips, server.url)


def test_nmnist_arrives_in_the_official_layout(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes], nmnist_folder: Path
) -> None:
    files = publish(server, nmnist_zips)
    folder = fetch_nmnist(tmp_path, files, expected=NMNIST_COUNTS, retry=QUICK)
    assert folder == tmp_path / "nmnist"
    assert tree(folder) == tree(nmnist_folder)
    assert len(NMNIST(folder).recordings()) == 360
    assert visible(tmp_path) == ["downloads", "nmnist"]
    assert fetch_nmnist(tmp_path, files, expected=NMNIST_COUNTS) == folder
    assert len(server.log) == 2


def test_nmnist_continues_with_the_folder_that_is_missing(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes]
) -> None:
    files = publish(server, {**nmnist_zips, "Test.zip": b"wrong"})
    right = nmnist_files(nmnist_zips, server.url)
    with pytest.raises(FetchError, match=r"Test\.zip"):
        fetch_nmnist(tmp_path, right, expected=NMNIST_COUNTS, retry=QUICK)
    assert not (tmp_path / "nmnist").exists()
    (tmp_path / "downloads" / "Train.zip").unlink()
    server.serve("Test.zip", nmnist_zips["Test.zip"])
    fetch_nmnist(tmp_path, right, expected=NMNIST_COUNTS, retry=QUICK)
    assert len(server.requests("Train.zip")) == 1
    assert files[0] == right[0]


def test_nmnist_of_another_number_of_recordings_is_an_error_with_the_numbers(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes]
) -> None:
    files = publish(server, nmnist_zips)
    official = {"Train": 60_000, "Test": 10_000}
    for _ in range(2):
        with pytest.raises(FetchError, match=r"120 recordings .* expected 60,000"):
            fetch_nmnist(tmp_path, files, expected=official, retry=QUICK)
    assert not (tmp_path / "nmnist").exists()
    fetch_nmnist(tmp_path, files, expected=NMNIST_COUNTS, retry=QUICK)
    with pytest.raises(FetchError, match=r"120 recordings, expected 60,000"):
        fetch_nmnist(tmp_path, files, expected=official, retry=QUICK)


def test_nmnist_counts_what_the_source_reads(
    tmp_path: Path, nmnist_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(nmnist_folder, tmp_path / "nmnist")
    for folder in NMNIST_COUNTS:
        (tmp_path / "nmnist" / folder / "@eaDir").mkdir()
        digit = tmp_path / "nmnist" / folder / "0"
        for name in LITTER:
            (digit / name).touch()
        for path in list(digit.glob("0*.bin")):
            path.rename(path.with_suffix(".BIN"))
    folder = fetch_nmnist(tmp_path, nmnist_files({}, ""), expected=NMNIST_COUNTS)
    assert len(NMNIST(folder).recordings()) == 360
    given = fetch_nmnist(tmp_path / "x", [], expected=NMNIST_COUNTS, given=[folder])
    assert given == folder
    assert "not the official dataset" not in caplog.text


def test_nmnist_failure_names_the_command_to_continue_with(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes]
) -> None:
    root = tmp_path / "my data"
    with pytest.raises(FetchError) as caught:
        fetch_nmnist(
            root, nmnist_files(nmnist_zips, server.url), expected=NMNIST_COUNTS, retry=QUICK
        )
    assert f"metaevents download nmnist --root '{root}' --from FILE" in str(caught.value)
    assert str(root / "downloads") in str(caught.value)


def test_nmnist_takes_zips_of_any_name(
    tmp_path: Path, nmnist_zips: dict[str, bytes], nmnist_folder: Path
) -> None:
    places = []
    for number, data in enumerate(nmnist_zips.values()):
        places.append(tmp_path / f"file_downloaded({number})")
        places[-1].write_bytes(data)
    files = nmnist_files(nmnist_zips, "http://127.0.0.1:1")
    folder = fetch_nmnist(
        tmp_path / "root", files, expected=NMNIST_COUNTS, given=places[::-1], retry=QUICK
    )
    assert tree(folder) == tree(nmnist_folder)
    assert all(place.exists() for place in places)


def test_nmnist_takes_a_folder_of_zips_and_downloads_the_rest(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes], nmnist_folder: Path
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "x.zip").write_bytes(nmnist_zips["Train.zip"])
    (given / "unrelated.zip").write_bytes(zip_of({"a.txt": b"text"}))
    files = publish(server, nmnist_zips)
    folder = fetch_nmnist(
        tmp_path / "root", files, expected=NMNIST_COUNTS, given=[given], retry=QUICK
    )
    assert tree(folder) == tree(nmnist_folder)
    assert [request.path for request in server.log] == ["/Test.zip"]


def test_nmnist_uses_a_folder_of_the_official_layout_where_it_is(
    tmp_path: Path, nmnist_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    expected = {**NMNIST_COUNTS, "Test": 10_000}
    assert fetch_nmnist(root, [], expected=expected, given=[nmnist_folder]) == nmnist_folder
    assert f"metaevents build --source {nmnist_folder}" in caplog.text
    assert "Test 240 of 10,000" in caplog.text
    assert not root.exists()


def test_nmnist_refuses_files_that_are_none_of_its_zips(
    tmp_path: Path, nmnist_zips: dict[str, bytes]
) -> None:
    files = nmnist_files(nmnist_zips, "http://127.0.0.1:1")
    (tmp_path / "other.zip").write_bytes(zip_of({"a.txt": b"text"}))
    (tmp_path / "empty").mkdir()
    for given in ("other.zip", "empty"):
        with pytest.raises(FetchError, match=checksum(nmnist_zips["Test.zip"])):
            fetch_nmnist(tmp_path / "root", files, expected=NMNIST_COUNTS, given=[tmp_path / given])
    with pytest.raises(MissingError, match="no file or folder"):
        fetch_nmnist(tmp_path / "root", files, expected=NMNIST_COUNTS, given=[tmp_path / "absent"])


def test_fetch_recordings_follows_the_package_file(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes]
) -> None:
    published = [
        {"name": f.name, "url": f.urls[0], "checksum": f.checksum}
        for f in publish(server, nmnist_zips)
    ]
    recordings = {
        **get_spec("double-nmnist").recordings,
        "files": published,
        "counts": NMNIST_COUNTS,
    }
    assert fetch_recordings(recordings, tmp_path, retry=QUICK) == tmp_path / "nmnist"


@pytest.mark.skipif(os.name != "posix", reason="needs pipes and sparse files")
def test_what_would_take_for_ever_is_refused(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes]
) -> None:
    files = publish(server, nmnist_zips)
    os.mkfifo(tmp_path / "pipe")
    for given in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UsageError, match=f"{given} is a pipe or a device"):
            fetch_nmnist(tmp_path, files, expected=NMNIST_COUNTS, given=[given])
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FetchError, match=f"{sparse} is none of Train.zip"):
        fetch_nmnist(tmp_path, files, expected=NMNIST_COUNTS, given=[sparse])
    with pytest.raises(FetchError, match=r"sparse has 1,099,511,627,776 bytes, more than"):
        adopt(sparse, files[0], tmp_path)
