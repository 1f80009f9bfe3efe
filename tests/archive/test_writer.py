"""Writing an archive: nothing lost, the same bytes from the same recordings, complete or absent."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.archives import NAME, build_nmnist
from support.recordings import random_events, write_mat, write_nmnist

from metaevents.archive.reader import Archive
from metaevents.archive.writer import build
from metaevents.building import build_archive, open_source
from metaevents.composition import compose
from metaevents.errors import (
    MetaeventsError,
    MissingError,
    RecordingError,
    StorageError,
    UsageError,
)
from metaevents.events import Events, make_events, window
from metaevents.sources import NMNIST, DatasetSource, RecordingRef


class Reversed(NMNIST):
    """The same recordings, listed in another order."""

    def recordings(self) -> list[RecordingRef]:
        return super().recordings()[::-1]


def test_every_event_of_the_window_is_kept(nmnist_folder: Path, nmnist_root: Path) -> None:
    archive, source = Archive(nmnist_root / f"{NAME}.h5"), NMNIST(nmnist_folder)
    refs = {ref.id: ref for ref in source.recordings()}
    assert sorted(archive.ids) == sorted(refs)
    for index, events in archive.iterate():
        expected = window(source.read(refs[archive.ids[index]])[0], 0, 100_000)
        assert np.array_equal(events, expected)


def test_repairs_are_counted_and_an_empty_file_keeps_its_place(tmp_path: Path) -> None:
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


def test_an_archive_is_replaced_only_with_force(nmnist_folder: Path, tmp_path: Path) -> None:
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
    """The names in a folder, without lock files."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


KILLED = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    import metaevents.archive.writer as writer
    from metaevents.building import build_archive
    from metaevents.sources import NMNIST

    where, folder, path = sys.argv[1:]

    def stop(*args, **kwargs):
        print("here", flush=True)
        time.sleep(60)

    batches = iter([writer._read_batch])  # the first batch is read, the second one stops

    if where == "reading":
        writer._read_batch = lambda *args: next(batches, stop)(*args)
    elif where == "sealing":
        writer.seal = stop
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
        import metaevents.archive.writer as writer
        from metaevents.building import build_archive
        from metaevents.sources import NMNIST

        class Marking(NMNIST):
            def read(self, ref):
                open(sys.argv[2] + f".{os.getpid()}", "w").close()
                return super().read(ref)

        if __name__ == "__main__":
            # The parent stops after the first batch, while its readers are alive.
            stop = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
            writer._ColumnAppender.append = stop
            build_archive("double-nmnist", sys.argv[2], Marking(sys.argv[1]), jobs=2)
        """
    )
    script = tmp_path / "build.py"
    script.write_text(code)
    subprocess.run([sys.executable, str(script), str(folder), str(tmp_path / "a.h5")], check=False)
    readers = [int(path.suffix[1:]) for path in tmp_path.glob("a.h5.*")]
    assert readers
    deadline = time.monotonic() + 20
    while any(map(alive, readers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, readers))


def alive(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def test_a_source_without_recordings_or_with_one_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no recordings"):
        compose(
            DatasetSource([], sensor_size=(34, 34), labels="ab", name="none"),
            root=tmp_path,
            splits={"train": ["ab"]},
        )

    class Twice(DatasetSource):
        def recordings(self) -> list[RecordingRef]:
            return super().recordings() * 2

    pair: tuple[Events, str] = (random_events(0), "a")
    with pytest.raises(UsageError, match="one id to several"):
        compose(
            Twice([pair], sensor_size=(34, 34), labels="ab", name="twice"),
            root=tmp_path,
            splits={"train": ["ab"]},
        )


def test_a_partition_rule_must_name_a_partition(nmnist_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'holdout' for Test/0/00001"):
        compose(
            NMNIST(nmnist_folder),
            root=tmp_path,
            partition=lambda ref, position, files: "holdout",
            splits="disjoint",
        )
    with pytest.raises(UsageError, match="jobs=0"):
        build(NMNIST(nmnist_folder), tmp_path / "a.h5", None, None, jobs=0)  # type: ignore[arg-type]


LABELS = [f"{i:04d}" for i in range(300)]


def labeled_source(labels: list[str], name: str = "many") -> DatasetSource:
    """One recording per label, each with another number of events."""
    pairs = [(random_events(i, 3 + i % 50, 8, 8, 90_000), label) for i, label in enumerate(labels)]
    return DatasetSource(pairs, sensor_size=(8, 8), labels=labels, name=name)


def test_more_than_256_labels_are_kept_apart(tmp_path: Path) -> None:
    source = labeled_source(LABELS)
    dataset = compose(source, arity=1, root=tmp_path, name="many", splits={"train": LABELS})
    archive = dataset.archive
    assert archive.attributes["format_version"] == 2
    assert archive.labels == tuple(LABELS)
    assert len(archive.verify(progress=False)) == 3
    assert [len(archive.read(i)) for i in range(300)] == [3 + i % 50 for i in range(300)]
    assert [archive.labels[i] for i in archive.table["label"]] == LABELS
    assert dataset.classes == tuple(LABELS)
    with h5py.File(archive.path) as file:
        assert file["recordings/label"].dtype == np.uint16
        assert "labels" not in file.attrs
        assert file["labels"][299] == b"0299"


def test_up_to_256_labels_are_format_1(tmp_path: Path) -> None:
    source = labeled_source(LABELS[:256])
    archive = compose(source, arity=1, root=tmp_path, name="a", splits="disjoint").archive
    assert archive.attributes["format_version"] == 1
    with h5py.File(archive.path) as file:
        assert file["recordings/label"].dtype == np.uint8
        assert list(file.attrs["labels"]) == LABELS[:256]


def test_many_labels_are_format_2(tmp_path: Path) -> None:
    labels = [f"{i:05d}" for i in range(5000)]  # too many for an attribute
    source = labeled_source(labels)
    archive = compose(source, arity=1, root=tmp_path, name="a", splits={"train": labels}).archive
    assert archive.labels == tuple(labels)
    archive.verify(progress=False)


class Given(DatasetSource):
    """A source with given references, whose recordings are never read."""

    refs: tuple[RecordingRef, ...]

    def recordings(self) -> list[RecordingRef]:
        return list(self.refs)

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        raise AssertionError("a recording was read")


def given_source(
    id: str = "x/1",
    label: str = "a",
    number: Any = 1,
    labels: Any = ("a",),
    name: str = "given",
    sensor_size: tuple[int, int] = (4, 4),
) -> Given:
    source = Given([], sensor_size=(4, 4), labels="a", name="given")
    settings = {"labels": tuple(labels), "name": name, "sensor_size": sensor_size}
    for key, value in settings.items():
        object.__setattr__(source, key, value)
    object.__setattr__(source, "refs", (RecordingRef(id, label, "", number, ""),))
    return source


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"labels": [str(i) for i in range(70_000)]}, "65,536"),
        ({"labels": ["a", "a"]}, "twice"),
        ({"labels": ["a", "b\0"]}, "null character"),
        ({"labels": ["a", "\udcff"]}, "cannot be stored"),
        ({"labels": ["a", "b" * 2000]}, "more than 1,024 bytes"),
        ({"label": "z"}, "none of its labels"),
        ({"number": 1 << 31}, "32 bits"),
        ({"number": -(1 << 31) - 1}, "32 bits"),
        ({"number": 1.5}, "32 bits"),
        ({"number": None}, "32 bits"),
        ({"id": "x" * 2000}, "more than 1,024 bytes"),
        ({"id": "x\0"}, "null character"),
        ({"id": "\udc80"}, "cannot be stored"),
        ({"name": "a\0b"}, "null character"),
        ({"sensor_size": (40_000, 4)}, "out of range"),
        ({"sensor_size": (0, 4)}, "out of range"),
    ],
)
def test_what_a_column_cannot_hold_is_refused_before_the_first_recording_is_read(
    tmp_path: Path, source: dict[str, Any], message: str
) -> None:
    from metaevents.archive.writer import ArchiveHeader
    from metaevents.specs import PARTITION_RULES

    header = ArchiveHeader("given", 0, 100_000, "", "", lambda contents: contents)
    with pytest.raises(UsageError, match=message):
        build(given_source(**source), tmp_path / "a.h5", header, PARTITION_RULES["blocks-60-20-20"])
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize("window_us", [0, 1 << 31, 1.5, True])
def test_a_window_that_a_column_cannot_hold_is_refused(tmp_path: Path, window_us: Any) -> None:
    from metaevents.archive.writer import ArchiveHeader

    header = ArchiveHeader("given", 0, window_us, "", "", lambda contents: contents)
    with pytest.raises(UsageError, match="window_us="):
        build(given_source(), tmp_path / "a.h5", header, lambda *_: "train")


@pytest.mark.parametrize(
    "events",
    [
        make_events([0, 4], [0, 0], [0, 1], [0, 1]),
        make_events([0, 0], [0, -1], [0, 1], [0, 1]),
        make_events([0, 0], [0, 0], [1, 2], [0, 1]),
        make_events([0, 0, 0], [0, 0, 0], [0, 5, 4], [0, 1, 1]),
        make_events([0], [0], [200_000], [0]),
    ],
)
def test_events_that_a_source_should_not_return_are_refused(tmp_path: Path, events: Events) -> None:
    class Careless(DatasetSource):
        def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
            return (events if ref.number else events[:0]), {}

    pairs = [(random_events(i, 5, 4, 4), "a") for i in range(3)]
    source = Careless(pairs, sensor_size=(4, 4), labels="a", name="careless")
    with pytest.raises(RecordingError):
        compose(source, arity=1, root=tmp_path, name="a", splits={"train": ["a"]})
    assert left_in(tmp_path) == set()


def test_force_on_a_symbolic_link_keeps_the_link(nmnist_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "archive.h5", tmp_path / "a.h5"
    link.symlink_to(target)
    build_nmnist(nmnist_folder, link)  # a link to a file that is still missing
    assert link.is_symlink()
    target.write_bytes(b"old")
    build_nmnist(nmnist_folder, link, force=True)
    assert link.is_symlink()
    assert len(Archive(target)) == 360


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_what_is_no_file_is_not_replaced(nmnist_folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "folder.h5").mkdir()
    for name in ("pipe.h5", "folder.h5"):
        with pytest.raises(UsageError, match="is no file"):
            build_nmnist(nmnist_folder, tmp_path / name, force=True)


def test_several_processes_may_ask_for_the_same_archive(
    nmnist_folder: Path, tmp_path: Path
) -> None:
    code = textwrap.dedent(
        f"""
        import metaevents.building as building
        import metaevents as me
        building.fetch_recordings = lambda recordings, root: {str(nmnist_folder)!r}
        print(len(me.DoubleNMNIST({str(tmp_path / "data")!r}, download=True).archive))
        """
    )
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    assert [process.communicate()[0] for process in processes] == ["360\n"] * 8
    assert [process.returncode for process in processes] == [0] * 8


KILLING_SOURCES = """
import os, signal
from metaevents.sources import NMNIST


class WhileItStarts(NMNIST):
    parent = 0

    def __setstate__(self, state):
        vars(self).update(state)
        if os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)


class AtItsFirstRecording(NMNIST):
    def read(self, ref):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("kind", ["WhileItStarts", "AtItsFirstRecording"])
def test_a_killed_reading_process_is_one_sentence_and_status_2(
    nmnist_folder: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "killing_sources.py").write_text(KILLING_SOURCES)
    script = f"""
        import os, sys
        from killing_sources import {kind}
        from metaevents.building import build_archive
        from metaevents.cli.base import run_action

        if __name__ == "__main__":
            source = {kind}({str(nmnist_folder)!r})
            source.parent = os.getpid()
            path = {str(tmp_path / "a.h5")!r}
            sys.exit(run_action("metaevents", lambda: print(
                build_archive("double-nmnist", path, source, jobs=2))))
        """
    done = run_script(tmp_path, script)
    assert done.returncode == 2, done.stderr
    assert "a reading process ended" in done.stderr
    assert "jobs=1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a.h5").exists()


def run_script(folder: Path, script: str, *, how: str = "file") -> subprocess.CompletedProcess[str]:
    """Run a program from a file, from standard input or from the command line."""
    text = textwrap.dedent(script)
    (folder / "program.py").write_text(text)
    arguments = {"file": [str(folder / "program.py")], "stdin": ["-"], "command": ["-c", text]}
    return subprocess.run(
        [sys.executable, *arguments[how]],
        input=text if how == "stdin" else "",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("how", "base", "message"),
    [
        ("file", "NMNIST", "outside of `if __name__"),
        ("stdin", "NMNIST", "the program comes from <stdin>"),
        ("command", "Own", "defined in a notebook or at a prompt"),
        ("command", "Closed", "cannot be sent to reading processes"),
    ],
)
def test_a_program_that_reading_processes_cannot_import_is_told_why(
    nmnist_folder: Path, tmp_path: Path, how: str, base: str, message: str
) -> None:
    script = f"""
        from metaevents.building import build_archive
        from metaevents.sources import NMNIST

        class Own(NMNIST):
            pass

        class Closed(NMNIST):
            def __reduce__(self):
                raise TypeError("it has a lambda")

        build_archive("double-nmnist", {str(tmp_path / "a.h5")!r}, {base}({str(nmnist_folder)!r}),
                      jobs=2)
        """
    done = run_script(tmp_path, script, how=how)
    last = done.stderr.strip().splitlines()[-1]
    assert "UsageError" in last
    assert message in last
    assert "jobs=1" in last
    assert "ServerProcess" not in done.stderr, "a reading process was started"
    assert not (tmp_path / "a.h5").exists()


def test_reading_processes_do_not_import_another_version_from_the_current_folder(
    nmnist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old" / "metaevents"
    (old / "archive").mkdir(parents=True)
    for package in (old, old / "archive"):
        (package / "__init__.py").touch()
    (old / "archive" / "writer.py").write_text("an old version")
    monkeypatch.chdir(tmp_path / "old")
    script = f"""
        from metaevents.building import build_archive
        from metaevents.sources import NMNIST

        if __name__ == "__main__":
            source = NMNIST({str(nmnist_folder)!r})
            build_archive("double-nmnist", {str(tmp_path / "a.h5")!r}, source, jobs=2)
        """
    done = run_script(tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.h5").exists()


def test_a_program_that_only_seems_to_have_a_guard_ends_with_one_sentence(
    nmnist_folder: Path, tmp_path: Path
) -> None:
    script = f"""
        # This text mentions __main__.
        from metaevents.building import build_archive
        from metaevents.sources import NMNIST
        build_archive("double-nmnist", {str(tmp_path / "a.h5")!r}, NMNIST({str(nmnist_folder)!r}),
                      jobs=2)
        """
    done = run_script(tmp_path, script)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "UsageError: a reading process ended" in last
    assert "__main__" in last


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that a test can fill; it needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("needs to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, kib: int) -> None:
    """Leave so many KiB free."""
    free = shutil.disk_usage(disk).free
    with (disk / "filler").open("wb") as file:
        file.write(bytes(max(0, free - 1024 * kib)))


@pytest.mark.parametrize("kib", [0, 64, 1024, 5 * 1024])
def test_a_full_disk_ends_a_build_with_one_sentence_and_keeps_the_old_archive(
    nmnist_folder: Path, small_disk: Path, kib: int
) -> None:
    old = build_nmnist(nmnist_folder, small_disk / f"{NAME}.h5").path
    before = old.read_bytes()
    fill(small_disk, kib)
    command = f"build {NAME} --root {small_disk} --source {nmnist_folder} --jobs 1 --force"
    done = subprocess.run(
        [sys.executable, "-m", "metaevents", *command.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "No space left on device" in done.stderr
    assert old.read_bytes() == before
    assert left_in(small_disk) == {old.name, "filler"}


@pytest.mark.skipif(os.name != "posix", reason="needs limits of processes")
@pytest.mark.parametrize("kib", [0, 4, 40, 400])
def test_a_file_that_may_not_grow_ends_a_build_with_one_sentence(
    nmnist_folder: Path, tmp_path: Path, kib: int
) -> None:
    """The same as a full disk, without root: the process may write only small files."""
    import resource

    command = f"build {NAME} --root {tmp_path} --source {nmnist_folder} --jobs 1"
    done = subprocess.run(
        [sys.executable, "-m", "metaevents", *command.split()],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kib << 10, kib << 10)),
    )
    assert done.returncode == 2, done.stderr
    assert "cannot write an archive" in done.stderr
    assert "File too large" in done.stderr
    assert left_in(tmp_path) == set()


def test_without_reservations_a_full_disk_is_found_by_its_free_space(
    nmnist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metaevents.archive.hdf5._allocate", lambda *arguments: False)
    assert len(build_nmnist(nmnist_folder, tmp_path / "a.h5")) == 360
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(StorageError, match="bytes free"):
        build_nmnist(nmnist_folder, tmp_path / "b.h5")
    assert left_in(tmp_path) == {"a.h5"}


def test_the_reservation_leaves_no_blocks_behind(nmnist_folder: Path, tmp_path: Path) -> None:
    archive = build_nmnist(nmnist_folder, tmp_path / "a.h5")
    status = archive.path.stat()
    assert status.st_blocks * 512 < status.st_size + (1 << 17)


def test_a_relative_path_is_made_absolute(
    nmnist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert build_archive(NAME, "a.h5", NMNIST(nmnist_folder)) == tmp_path / "a.h5"
    with pytest.raises(MetaeventsError):
        build_archive(NAME, "~nobody-of-that-name/a.h5", NMNIST(nmnist_folder))
