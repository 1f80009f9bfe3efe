"""Reading an archive: recordings as they were written, and no damage unnoticed."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.archives import NAME, build_in, copy_archive, edit_archive
from support.recordings import write_nmnist

from metaevents.archive.hdf5 import open_to_read
from metaevents.archive.reader import Archive
from metaevents.building import verify_rules
from metaevents.composition import compose
from metaevents.errors import ArchiveError, MetaeventsError, MissingError, UsageError
from metaevents.events import make_events
from metaevents.sources import DatasetSource


def test_reading_one_recording_is_reading_it_among_all(nmnist_root: Path) -> None:
    archive = Archive(nmnist_root / f"{NAME}.h5")
    everything = dict(archive.iterate())
    for index in (0, 7, len(archive) - 1):
        assert np.array_equal(archive.read(index), everything[index])


def test_an_archive_travels_to_another_process(nmnist_root: Path) -> None:
    archive = Archive(nmnist_root / f"{NAME}.h5")
    again = pickle.loads(pickle.dumps(archive))
    assert np.array_equal(again.read(3), archive.read(3))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 0.999])
def test_any_flipped_bit_is_found(nmnist_root: Path, tmp_path: Path, share: float) -> None:
    path = copy_archive(nmnist_root, tmp_path)
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 4
    path.write_bytes(content)
    with pytest.raises(ArchiveError):
        Archive(path).verify(progress=False)


@pytest.mark.parametrize("keep", [0, 100, 512, 5000, -1])
def test_a_truncated_file_is_found_on_opening(nmnist_root: Path, tmp_path: Path, keep: int) -> None:
    path = copy_archive(nmnist_root, tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArchiveError, match="build it again"):
        Archive(path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("file.attrs['format_version'] = 99", "upgrade metaevents"),
        ("del file.attrs['fingerprint']", "lacks the attributes fingerprint"),
        ("del file['events/x']", r"events/x has shape None, expected"),
        (
            "del file['recordings/id']; file['recordings/id'] = [b'x']",
            r"recordings/id has shape \(1,\), expected \(360,\)",
        ),
        ("file['events/offset'][5] = 10**9", "not an ascending list"),
        ("file['recordings/label'][0] = 77", "out of range"),
    ],
)
def test_columns_and_attributes_are_checked_on_opening(
    nmnist_root: Path, tmp_path: Path, edit: str, message: str
) -> None:
    path = copy_archive(nmnist_root, tmp_path)
    edit_archive(path, edit)
    with pytest.raises(ArchiveError, match=message):
        Archive(path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("file['events/x'][3] ^= 1", "recording Test/0/00001 is corrupt"),
        ("file['recordings/partition'][0] = 0", "digest of all recordings"),
        ("file['recordings/number'][0] += 1", "digest of all recordings"),
        ("file['recordings/position'][0] = 1", "not in its partition"),
        ("file.attrs['fingerprint'] = 'f' * 64", "the fingerprint is"),
    ],
)
def test_contents_are_checked_by_verify(
    nmnist_root: Path, tmp_path: Path, edit: str, message: str
) -> None:
    path = copy_archive(nmnist_root, tmp_path)
    edit_archive(path, edit)
    with pytest.raises(ArchiveError, match=message):
        check_everything(path)


def check_everything(path: Path) -> None:
    archive = Archive(path)
    archive.verify(progress=False)
    verify_rules(archive)


def test_files_that_are_no_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no archive"):
        Archive(tmp_path / "nothing.h5")
    with pytest.raises(ArchiveError, match="is a folder"):
        Archive(tmp_path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    for name, content in {"text.h5": b"hello", "other.h5": None}.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ArchiveError, match="is no metaevents archive"):
            Archive(tmp_path / name)


REPLACE = """
CHUNKED = dict(maxshape=(None,), chunks=(1 << 16,))

def replace(file, name, data, **options):
    settings = dict(compression="gzip", compression_opts=4, shuffle=True)
    attributes = file[name]
    del file[name]
    file.create_dataset(name, data=data, **{**settings, **options})
"""


def forge(path: Path, edit: str) -> None:
    """Edit an archive by statements that may call `replace`, and seal it again."""
    edit_archive(path, REPLACE + edit)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        # Every column of another type, however well its values fit.
        *(
            (
                f"values = file['{name}'][:]; replace(file, '{name}', values.astype('{dtype}'))",
                "dtype",
            )
            for name, dtype in [
                ("events/p", "S3"),
                ("events/p", "?"),
                ("events/p", "i1"),
                ("events/x", "u2"),
                ("events/y", "f4"),
                ("events/dt", "i8"),
                ("events/dt", ">u4"),
                ("events/offset", "i4"),
                ("recordings/label", "u2"),
                ("recordings/partition", "i1"),
                ("recordings/number", "f8"),
                ("recordings/position", ">i4"),
                ("recordings/files", "u4"),
                ("recordings/digest", "i1"),
                ("recordings/id", "O"),
            ]
        ),
        ("replace(file, 'recordings/label', file['recordings/label'][:][:, None])", "shape"),
        (
            "replace(file, 'events/p', file['events/p'][:].reshape(-1, 1), maxshape=(None, 1), "
            "chunks=(1 << 16, 1))",
            "shape",
        ),
        ("replace(file, 'recordings/digest', file['recordings/digest'][:].ravel())", "shape"),
        ("del file['events/x']; file['events/x'] = np.uint8(0)", "shape"),
        ("del file['events/x']; file['events/x'] = h5py.Empty('u1')", "shape"),
        # Other filters, chunks and layouts.
        (
            "replace(file, 'events/p', file['events/p'][:], **CHUNKED, compression='lzf', "
            "compression_opts=None)",
            "filters",
        ),
        (
            "replace(file, 'events/p', file['events/p'][:], **CHUNKED, shuffle=False)",
            "filters",
        ),
        (
            "replace(file, 'events/p', file['events/p'][:], **CHUNKED, fletcher32=True)",
            "filters",
        ),
        (
            "replace(file, 'events/p', file['events/p'][:], **CHUNKED, compression_opts=9)",
            "filters",
        ),
        (
            "replace(file, 'recordings/number', file['recordings/number'][:], scaleoffset=0, "
            "compression=None, compression_opts=None)",
            "filters",
        ),
        (
            "replace(file, 'events/p', file['events/p'][:], maxshape=(None,), chunks=(1000,))",
            "chunks",
        ),
        ("values = file['events/p'][:]; del file['events/p']; file['events/p'] = values", "layout"),
        # A group, a named type, or something more than the columns.
        ("del file['events/x']; file.create_group('events/x')", "damaged"),
        ("del file['events/x']; file['events/x'] = np.dtype('u1')", "damaged"),
        ("del file['recordings']; file['recordings'] = np.arange(3)", "damaged|lacks|shape"),
        ("file['extra'] = 1", "holds 'extra'"),
        ("file['events/extra'] = 1", "holds 'extra'"),
        # Attributes of another type or out of range.
        ("file.attrs['window_us'] = 1e5", "window_us"),
        ("file.attrs['window_us'] = 0", "window_us"),
        ("file.attrs['window_us'] = 1 << 40", "window_us"),
        ("file.attrs['window_us'] = [100_000]", "window_us"),
        ("file.attrs['citation'] = np.bytes_(b'bytes')", "citation"),
        ("file.attrs['citation'] = h5py.Empty('u1')", "citation"),
        ("file.attrs['source'] = 7", "source"),
        ("file.attrs['dirt'] = 'no JSON'", "dirt"),
        ("file.attrs['dirt'] = '[' * 30_000", "dirt"),
        ("file.attrs['dirt'] = '{\"a\": \"b\"}'", "dirt"),
        ("file.attrs['fingerprint'] = '../../../../home'", "fingerprint"),
        ("file.attrs['contents'] = '*'", "contents"),
        ("file.attrs['labels'] = ['0'] * 10", "labels"),
        ("file.attrs['labels'] = list(range(10))", "labels"),
        ("file.attrs['labels'] = [['0', '1']]", "labels"),
        ("file.attrs['labels'] = [str(i) for i in range(300)]", "labels"),
        ("file.attrs['partitions'] = ['test', 'val', 'train']", "partitions"),
        ("file.attrs['sensor_size'] = [34]", "sensor_size"),
        ("file.attrs['sensor_size'] = [0, 34]", "sensor_size"),
        ("file.attrs['sensor_size'] = [34.0, 34.0]", "sensor_size"),
        ("file.attrs['protocol_version'] = -1", "protocol_version"),
        ("file.attrs['recordings'] = 0", "recordings"),
        ("file.attrs['events'] = 'many'", "events"),
    ],
)
def test_what_no_archive_has_is_refused_on_opening(
    nmnist_root: Path, tmp_path: Path, edit: str, message: str
) -> None:
    path = copy_archive(nmnist_root, tmp_path)
    forge(path, edit)
    with pytest.raises(ArchiveError, match=message):
        Archive(path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("file['events/p'][:] = file['events/p'][:] * 2", "outside"),
        ("file['events/x'][3] = 34", "outside"),
        ("file['events/dt'][3] = 1 << 31", "outside"),
        ("file.attrs['sensor_size'] = [3, 34]", "outside"),
        ("file.attrs['window_us'] = 10", "outside"),
        ("file['recordings/digest'][:] = 0", "is corrupt"),
        ("file['recordings/id'][0] = b'\\xff'", "not in UTF-8|digest of all"),
        ("file['recordings/id'][0] = file['recordings/id'][1]", "same id"),
        ("file.attrs['contents'] = 'f' * 64", "digest of all recordings"),
        ("file.attrs['window_us'] = 99_999_999", "window_us"),
        ("file.attrs['sensor_size'] = [36, 36]", "sensor_size"),
    ],
)
def test_what_opening_cannot_see_is_refused_by_verify(
    nmnist_root: Path, tmp_path: Path, edit: str, message: str
) -> None:
    path = copy_archive(nmnist_root, tmp_path)
    edit_archive(path, edit)
    with pytest.raises(ArchiveError, match=message):
        check_everything(path)


LINKS = {
    "soft": "del file['events/x']; file['events/x'] = h5py.SoftLink('/events/y')",
    "dangling": "del file['events/x']; file['events/x'] = h5py.SoftLink('/nothing')",
    "external": "del file['recordings/id']; "
    "file['recordings/id'] = h5py.ExternalLink(OTHER, '/recordings/id')",
    "external group": "del file['events']; file['events'] = h5py.ExternalLink(OTHER, '/events')",
    "external pipe": "del file['events']; file['events'] = h5py.ExternalLink(PIPE, '/events')",
    "raw storage": "n = len(file['recordings/number']); del file['recordings/number']; "
    "file.create_dataset('recordings/number', (n,), 'i4', external=[(OTHER, 0, 4 * n)])",
    "virtual": "n = len(file['events/x']); del file['events/x']; "
    "layout = h5py.VirtualLayout((n,), 'u1'); "
    "layout[:] = h5py.VirtualSource(OTHER, 'events/x', (n,), 'u1'); "
    "file.create_virtual_dataset('events/x', layout)",
    "virtual pipe": "n = len(file['events/x']); del file['events/x']; "
    "layout = h5py.VirtualLayout((n,), 'u1', maxshape=(None,)); "
    "source = h5py.VirtualSource(PIPE, 'events/x', (n,), 'u1', maxshape=(None,)); "
    "layout[0:h5py.h5s.UNLIMITED] = source[0:h5py.h5s.UNLIMITED]; "
    "file.create_virtual_dataset('events/x', layout)",
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("kind", LINKS)
def test_an_archive_leads_to_no_other_file(nmnist_root: Path, tmp_path: Path, kind: str) -> None:
    path = copy_archive(nmnist_root, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    names = {"OTHER": str(nmnist_root / f"{NAME}.h5"), "PIPE": str(tmp_path / "pipe")}
    edit = LINKS[kind]
    for name, value in names.items():
        edit = edit.replace(name, repr(value))
    edit_archive(path, edit)
    code = f"from metaevents.archive.reader import Archive; Archive({str(path)!r})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "ArchiveError" in done.stderr
    assert "is a link to another place" in done.stderr or "another file" in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_or_device_in_the_place_of_an_archive_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "device.h5").symlink_to("/dev/zero")
    (tmp_path / "dangling.h5").symlink_to(tmp_path / "nothing")
    for name in ("pipe.h5", "device.h5"):
        with pytest.raises(ArchiveError, match="pipe or device"):
            Archive(tmp_path / name)
    for name in ("dangling.h5", "pipe.h5/below"):
        with pytest.raises(MissingError, match="no archive"):
            Archive(tmp_path / name)
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(MetaeventsError):
            Archive(tmp_path / name)


def test_an_archive_stays_readable_when_the_process_changes_its_folder(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nmnist_root)
    archive = Archive(f"{NAME}.h5")
    monkeypatch.chdir(tmp_path)
    assert len(archive.read(0))
    assert archive.path == nmnist_root / f"{NAME}.h5"


def test_an_archive_that_was_replaced_or_removed_is_noticed(
    nmnist_root: Path, tmp_path: Path
) -> None:
    path = copy_archive(nmnist_root, tmp_path)
    archive = Archive(path)
    (tmp_path / "other").mkdir()
    build_in(tmp_path / "other", NAME, write_nmnist(tmp_path / "raw", 12, 24, n=50))
    (tmp_path / "other" / f"{NAME}.h5").replace(path)
    for action in (lambda: archive.read(0), lambda: archive.verify(progress=False)):
        with pytest.raises(ArchiveError, match="was replaced by another archive"):
            action()
    path.unlink()
    with pytest.raises(MissingError, match="no archive"):
        archive.read(0)


def test_missing_damaged_and_open_elsewhere_are_three_sentences(
    nmnist_root: Path, tmp_path: Path
) -> None:
    fcntl = pytest.importorskip("fcntl")
    path = copy_archive(nmnist_root, tmp_path)
    with path.open("r+b") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(ArchiveError, match="open for writing in another process"):
            Archive(path)
    with path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert len(Archive(path)) == 360
    with pytest.raises(MissingError, match="no archive"):
        Archive(tmp_path / "nothing.h5")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"TREE", b"tree"))
    with pytest.raises(ArchiveError, match="SHA-256"):
        Archive(path)


@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP", "EROFS", "EINVAL", "ENOSYS"])
def test_a_file_system_without_locks_will_do(
    nmnist_root: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*arguments: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert len(Archive(nmnist_root / f"{NAME}.h5").read(0))


def test_hdf5_takes_no_lock_to_read(nmnist_root: Path, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    path = copy_archive(nmnist_root, tmp_path)
    with open_to_read(path), path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_declared_sizes_are_bounded_by_the_file(nmnist_root: Path, tmp_path: Path) -> None:
    path = copy_archive(nmnist_root, tmp_path)
    forge(
        path,
        "n = 10**9; file.attrs['events'] = n\n"
        "for name in ('dt', 'x', 'y', 'p'): file['events'][name].resize((n,))\n"
        "file['events/offset'][-1] = n\n",
    )
    with pytest.raises(ArchiveError, match="bytes that it takes in the file"):
        Archive(path)


def test_a_recording_of_many_events_is_verified_in_pieces(tmp_path: Path) -> None:
    n = 1 << 23
    zeros = np.zeros(n, np.uint8)
    events = make_events(zeros, zeros, np.arange(n) // 100, zeros)
    source = DatasetSource([(events, "a")], sensor_size=(4, 4), labels="a", name="long")
    compose(source, arity=1, root=tmp_path, name="long", splits={"train": ["a"]})
    archive = Archive(tmp_path / "long.h5")
    tracemalloc.start()
    archive.verify(progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    edit_archive(archive.path, "file['events/dt'][3_000_000] ^= 1")
    with pytest.raises(ArchiveError, match="is corrupt"):
        Archive(archive.path).verify(progress=False)


@pytest.mark.parametrize("index", [-1, 360, 1.0, True, "0"])
def test_an_index_that_does_not_exist_is_refused(nmnist_root: Path, index: object) -> None:
    with pytest.raises(UsageError, match="index="):
        Archive(nmnist_root / f"{NAME}.h5").read(index)  # type: ignore[arg-type]
