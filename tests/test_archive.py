"""The archive: nothing lost, the same bytes from the same recordings, whole or not there, and no damage unnoticed."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.recordings import nmnist_bytes, random_events, write_mat, write_nmnist

from metaevents.archive.reader import Archive
from metaevents.archive.writer import build
from metaevents.building import build_archive, open_source, verify_rules
from metaevents.errors import ArchiveError, MissingError, RecordingError, UsageError
from metaevents.events import Events, window
from metaevents.sources import NMNIST, DatasetSource, RecordingRef

NAME = "double-nmnist"


def build_nmnist(folder: Path, path: Path, **options: object) -> Archive:
    build_archive(NAME, path, NMNIST(folder), **options)  # type: ignore[arg-type]
    return Archive(path)


class Reversed(NMNIST):
    """The same recordings, named in another order."""

    def recordings(self) -> list[RecordingRef]:
        return super().recordings()[::-1]


# --- contents ------------------------------------------------------------------------------------------------------


def test_every_event_of_the_window_is_kept(nmnist_folder: Path, nmnist_root: Path) -> None:
    archive, source = Archive(nmnist_root / f"{NAME}.h5"), NMNIST(nmnist_folder)
    refs = {ref.id: ref for ref in source.recordings()}
    assert sorted(archive.ids) == sorted(refs)
    for index, events in archive.iterate():
        expected = window(source.read(refs[archive.ids[index]])[0], 0, 100_000)
        assert np.array_equal(events, expected)


def test_reading_one_recording_is_reading_it_among_all(nmnist_root: Path) -> None:
    archive = Archive(nmnist_root / f"{NAME}.h5")
    everything = dict(archive.iterate())
    for index in (0, 7, len(archive) - 1):
        assert np.array_equal(archive.read(index), everything[index])


def test_plain_h5py_reads_the_columns(nmnist_root: Path) -> None:
    archive = Archive(nmnist_root / f"{NAME}.h5")
    with h5py.File(archive.path) as file:
        offset = file["events/offset"][:]
        part = slice(offset[5], offset[6])
        t = np.cumsum(file["events/dt"][part])
        x = file["events/x"][part]
        assert file["recordings/id"][5].decode() == archive.ids[5]
        assert set(file["events"]) == {"offset", "dt", "x", "y", "p"}
    assert np.array_equal(t, archive.read(5)["t"])
    assert np.array_equal(x, archive.read(5)["x"])


def test_attributes_say_what_it_is(nmnist_root: Path) -> None:
    archive = Archive(nmnist_root / f"{NAME}.h5")
    attributes = archive.attributes
    assert (attributes["format"], attributes["format_version"]) == ("metaevents-recordings", 1)
    assert (archive.dataset, archive.protocol_version, archive.source) == (
        NAME,
        1,
        "n-mnist-subset",
    )
    assert archive.sensor_size == (34, 34)
    assert "microseconds" in attributes["units"]
    assert attributes["licence"] == "CC BY-SA 4.0"
    assert "Orchard" in attributes["citation"]
    assert attributes["recordings"] == len(archive) == 360


def test_an_archive_travels_to_another_process(nmnist_root: Path) -> None:
    archive = Archive(nmnist_root / f"{NAME}.h5")
    again = pickle.loads(pickle.dumps(archive))
    assert np.array_equal(again.read(3), archive.read(3))


def test_the_sample_takes_at_most_2_7_bytes_an_event(sample_root: Path) -> None:
    path = sample_root / f"{NAME}.h5"
    assert path.stat().st_size / int(Archive(path).attributes["events"]) <= 2.7


def test_the_sample_passes_every_check(sample_root: Path) -> None:
    archive = Archive(sample_root / f"{NAME}.h5")
    assert len(archive) == 1000
    assert len([*archive.verify(progress=False), *verify_rules(archive)]) == 5


# --- repairs ----------------------------------------------------------------------------------------------------------


def test_dirt_is_counted_and_a_skipped_file_keeps_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "asl"
    for number in range(1, 11):
        empty: list[int] = []
        columns = {"ts": [0, 5], "x": [1, 250], "y": [1, 1], "pol": [1, -1]}
        write_mat(
            folder / "a" / f"a_{number:04d}.mat",
            **(dict.fromkeys(columns, empty) if number == 3 else columns),
        )
    build_archive("double-asl-dvs", tmp_path / "a.h5", open_source("double-asl-dvs", folder))
    archive = Archive(tmp_path / "a.h5")
    assert archive.repairs == {
        "events_off_as_minus_one": 9,
        "events_out_of_range": 9,
        "recordings_empty": 1,
    }
    assert len(archive) == 9
    # Ten files: six train although one of them is empty, two val, two test.
    assert [len(archive.select("a", [part])) for part in ("train", "val", "test")] == [5, 2, 2]


# --- one fingerprint -----------------------------------------------------------------------------------------------


def test_the_file_depends_on_neither_jobs_nor_order(nmnist_folder: Path, tmp_path: Path) -> None:
    one = build_nmnist(nmnist_folder, tmp_path / "one.h5")
    two = build_nmnist(nmnist_folder, tmp_path / "two.h5", jobs=2)
    build_archive(NAME, tmp_path / "reversed.h5", Reversed(nmnist_folder))
    assert one.fingerprint == two.fingerprint
    assert one.path.read_bytes() == two.path.read_bytes() == (tmp_path / "reversed.h5").read_bytes()


def test_one_event_more_gives_another_fingerprint(
    nmnist_folder: Path, nmnist_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(nmnist_folder, folder)
    path = folder / "Train" / "0" / "00001.bin"
    path.write_bytes(path.read_bytes()[:-5])
    shorter = build_nmnist(folder, tmp_path / "shorter.h5")
    full = Archive(nmnist_root / f"{NAME}.h5")
    in_window = len(
        window(NMNIST(nmnist_folder).read(NMNIST(nmnist_folder).recordings()[0])[0], 0, 100_000)
    )
    assert in_window < 60, "the last event lies beyond the window"
    assert shorter.fingerprint == full.fingerprint, "events beyond the window do not count"
    path.write_bytes(path.read_bytes()[5:])
    assert build_nmnist(folder, tmp_path / "other.h5").fingerprint != full.fingerprint


# --- whole or not there --------------------------------------------------------------------------------------------


def test_an_archive_is_never_replaced_unasked(nmnist_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"something of the user's")
    with pytest.raises(UsageError, match="--force"):
        build_nmnist(nmnist_folder, path)
    assert path.read_bytes() == b"something of the user's"
    assert len(build_nmnist(nmnist_folder, path, force=True)) == 360


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_recording_stops_the_build_and_leaves_nothing(tmp_path: Path, jobs: int) -> None:
    folder = write_nmnist(tmp_path / "raw", 8, 8)
    (folder / "Test" / "9" / "00070.bin").write_bytes(b"1234567")
    with pytest.raises(RecordingError, match=r"00070\.bin has 7 bytes"):
        build_nmnist(folder, tmp_path / "a.h5", jobs=jobs)
    assert left_in(tmp_path) == {"raw"}


def test_a_failed_rebuild_keeps_the_archive_that_was_there(tmp_path: Path) -> None:
    folder = write_nmnist(tmp_path / "raw", 2, 2)
    before = build_nmnist(folder, tmp_path / "a.h5").path.read_bytes()
    (folder / "Test" / "9" / "00099.bin").write_bytes(b"1234567")
    with pytest.raises(RecordingError):
        build_nmnist(folder, tmp_path / "a.h5", force=True)
    assert (tmp_path / "a.h5").read_bytes() == before


def left_in(folder: Path) -> set[str]:
    """What a user finds there, but for the lock file."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


KILLED = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    import metaevents.archive.writer as archive
    from metaevents.building import build_archive
    from metaevents.sources import NMNIST

    where, folder, path = sys.argv[1:]

    def stop(*args, **kwargs):
        print("here", flush=True)
        time.sleep(60)

    if where == "reading":
        first = archive._read_batch
        archive._read_batch = lambda *args: first(*args) if not hasattr(stop, "seen") and not setattr(stop, "seen", 1) else stop()
    elif where == "sealing":
        archive.seal = stop
    elif where == "renaming":
        Path.replace = stop
    build_archive("double-nmnist", path, NMNIST(folder))
    """
)


@pytest.mark.parametrize("where", ["reading", "sealing", "renaming"])
def test_a_killed_build_leaves_no_archive_and_the_next_one_succeeds(
    nmnist_folder: Path, tmp_path: Path, where: str
) -> None:
    path = tmp_path / "a.h5"
    command = [sys.executable, "-c", KILLED, where, str(nmnist_folder), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    assert build_nmnist(nmnist_folder, path).verify(progress=False)
    assert left_in(tmp_path) == {"a.h5"}


def test_readers_end_with_a_killed_build(tmp_path: Path) -> None:
    folder = write_nmnist(tmp_path / "raw", 40, 40)
    code = textwrap.dedent(
        """
        import os, signal, sys, multiprocessing
        import metaevents.archive.writer as archive
        from metaevents.building import build_archive
        from metaevents.sources import NMNIST

        class Telling(NMNIST):
            def read(self, ref):
                open(sys.argv[2] + f".{os.getpid()}", "w").close()
                return super().read(ref)

        if __name__ == "__main__":
            build_archive("double-nmnist", sys.argv[2], Telling(sys.argv[1]), jobs=2)
        """
    )
    script = tmp_path / "telling.py"
    # The parent stops after the first batch, with readers alive.
    script.write_text(
        code.replace(
            'build_archive("double',
            'archive._Appender.append = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n    build_archive("double',
        )
    )
    subprocess.run([sys.executable, str(script), str(folder), str(tmp_path / "a.h5")], check=False)
    readers = [int(path.suffix[1:]) for path in tmp_path.glob("a.h5.*")]
    assert readers
    deadline = time.monotonic() + 20
    while any(map(alive, readers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, readers))


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


# --- damage --------------------------------------------------------------------------------------------------------


def damaged(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / f"{NAME}.h5"
    shutil.copy(root / f"{NAME}.h5", path)
    return path


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 0.999])
def test_any_flipped_bit_is_found(nmnist_root: Path, tmp_path: Path, share: float) -> None:
    path = damaged(nmnist_root, tmp_path)
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 4
    path.write_bytes(content)
    with pytest.raises(ArchiveError):
        Archive(path).verify(progress=False)


@pytest.mark.parametrize("keep", [0, 100, 512, 5000, -1])
def test_a_truncated_file_is_found_on_opening(nmnist_root: Path, tmp_path: Path, keep: int) -> None:
    path = damaged(nmnist_root, tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArchiveError, match="build it again"):
        Archive(path)


def change(path: Path, edit: str) -> None:
    """Edit an archive with plain h5py and seal it again, as a careless hand would."""
    from metaevents.archive.format import seal

    with h5py.File(path, "r+") as file:
        exec(edit, {"file": file, "np": np})
    seal(path)


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
    path = damaged(nmnist_root, tmp_path)
    change(path, edit)
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
    path = damaged(nmnist_root, tmp_path)
    change(path, edit)
    with pytest.raises(ArchiveError, match=message):
        verify_all(path)


def verify_all(path: Path) -> Sequence[str]:
    archive = Archive(path)
    return [*archive.verify(progress=False), *verify_rules(archive)]


def test_files_that_are_no_archives_are_named_so(tmp_path: Path) -> None:
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


# --- sources of a user's own ---------------------------------------------------------------------------------------


def test_a_source_without_recordings_or_with_one_id_twice_is_refused(tmp_path: Path) -> None:
    from metaevents.composition import compose

    with pytest.raises(MissingError, match="no recordings"):
        compose(DatasetSource([], sensor_size=(34, 34), labels="ab", name="none"), root=tmp_path)

    class Twice(DatasetSource):
        def recordings(self) -> list[RecordingRef]:
            return super().recordings() * 2

    pair: tuple[Events, str] = (random_events(0), "a")
    with pytest.raises(UsageError, match="one id to several"):
        compose(Twice([pair], sensor_size=(34, 34), labels="ab", name="twice"), root=tmp_path)


def test_a_partition_rule_must_name_a_partition(nmnist_folder: Path, tmp_path: Path) -> None:
    from metaevents.composition import compose

    with pytest.raises(UsageError, match="'holdout' for Test/0/00001"):
        compose(
            NMNIST(nmnist_folder), root=tmp_path, partition=lambda ref, position, files: "holdout"
        )
    with pytest.raises(UsageError, match="jobs=0"):
        build(NMNIST(nmnist_folder), tmp_path / "a.h5", None, None, jobs=0)  # type: ignore[arg-type]


def test_bytes_helper_writes_what_tonic_reads(tmp_path: Path) -> None:
    from tonic.io import events_struct, read_mnist_file

    events = random_events(9, 300)
    (tmp_path / "x.bin").write_bytes(nmnist_bytes(events))
    assert np.array_equal(
        read_mnist_file(os.fspath(tmp_path / "x.bin"), dtype=events_struct), events
    )
