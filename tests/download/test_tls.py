"""Downloads over TLS, with a certificate that is made here."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.downloads import QUICK, checksum, visible
from support.http_server import Answer, MisbehavingServer

from metaevents.download.http import RemoteFile, download
from metaevents.errors import FetchError

BODY = random.Random(0).randbytes(300_000)
NAME = "data.bin"


def write_certificate(path: Path) -> None:
    """Write a certificate for localhost and its key, both in one PEM file."""
    key = path.with_suffix(".key")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("ab") as file:
        file.write(key.read_bytes())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl, which makes certificates, is not installed")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    write_certificate(path)
    return path


@pytest.fixture
def secure(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingServer]:
    """A server with TLS, whose certificate is trusted."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with MisbehavingServer(certificate) as running:
        yield running


def remote(*urls: str) -> RemoteFile:
    return RemoteFile(NAME, urls, checksum(BODY))


def redirect(location: str) -> Answer:
    return Answer(status=302, headers={"Location": location})


def test_a_file_comes_over_tls_and_is_resumed(secure: MisbehavingServer, tmp_path: Path) -> None:
    url = secure.serve(NAME, BODY, Answer(cut_after=100_000), Answer(chunked=True))
    assert url.startswith("https://")
    assert download(remote(url), tmp_path, retry=QUICK).read_bytes() == BODY
    assert secure.log[1].range == "bytes=100000-"


def test_an_untrusted_certificate_is_refused_at_once(
    secure: MisbehavingServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(FetchError, match=r"certificate is not trusted.*REQUESTS_CA_BUNDLE"):
        download(remote(secure.serve(NAME, BODY)), tmp_path, retry=QUICK)
    assert not secure.log
    assert visible(tmp_path) == []


def test_a_certificate_of_another_host_is_refused(
    secure: MisbehavingServer, tmp_path: Path
) -> None:
    url = secure.serve(NAME, BODY).replace("localhost", "127.0.0.1")
    with pytest.raises(FetchError, match="certificate is not trusted"):
        download(remote(url), tmp_path, retry=QUICK)


def test_the_way_from_https_to_http_is_refused_and_the_next_url_tried(
    server: MisbehavingServer, secure: MisbehavingServer, tmp_path: Path
) -> None:
    plain = server.serve(NAME, BODY)
    away = secure.serve("away.bin", b"", redirect(plain), redirect(plain))
    with pytest.raises(FetchError, match=r"it redirects from https to http://127.*not secure"):
        download(remote(away), tmp_path, retry=QUICK)
    assert not server.log
    good = secure.serve(NAME, BODY)
    assert download(remote(away, good), tmp_path, retry=QUICK).read_bytes() == BODY
    assert not server.log
    assert len(secure.requests("away.bin")) == 2


def test_the_way_to_http_is_refused_at_every_step(
    server: MisbehavingServer, secure: MisbehavingServer, tmp_path: Path
) -> None:
    plain = server.serve(NAME, BODY)
    second = secure.serve("second.bin", b"", redirect(plain))
    first = server.serve("first.bin", b"", redirect(second))
    with pytest.raises(FetchError, match="not secure"):
        download(remote(first), tmp_path, retry=QUICK)
    assert [request.path for request in server.log] == ["/first.bin"]


def test_the_ways_from_http_to_https_and_within_https_are_followed(
    server: MisbehavingServer, secure: MisbehavingServer, tmp_path: Path
) -> None:
    good = secure.serve(NAME, BODY)
    moved = secure.serve("moved.bin", b"", redirect(f"/{NAME}"))
    start = server.serve("start.bin", b"", redirect(moved))
    assert download(remote(start), tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.path for request in secure.log] == ["/moved.bin", f"/{NAME}"]
    assert good.endswith(NAME)
