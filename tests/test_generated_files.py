"""Generated files are written, or checked against what would be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaevents.errors import UsageError
from metaevents.generated_files import check_generated, write_generated


def check(files: dict[Path, str]) -> None:
    check_generated(files, inputs="the entries", command="make tables")


def test_written_files_pass_the_check(tmp_path: Path) -> None:
    files = {tmp_path / "a.md": "one\n", tmp_path / "deeper" / "b.md": "± two\n"}
    write_generated(files)
    assert (tmp_path / "deeper" / "b.md").read_bytes() == "± two\n".encode()
    check(files)


def test_the_check_names_every_missing_or_different_file_and_the_command(tmp_path: Path) -> None:
    files = {tmp_path / name: name for name in ("same", "different", "missing")}
    write_generated({tmp_path / "same": "same", tmp_path / "different": "other"})
    with pytest.raises(UsageError) as error:
        check(files)
    message = str(error.value)
    assert message.startswith("out of date with the entries: ")
    assert "different" in message
    assert "missing" in message
    assert "same" not in message.removeprefix(f"{tmp_path}").replace(str(tmp_path), "")
    assert "run `make tables`" in message
    assert not (tmp_path / "missing").exists(), "the check writes nothing"


def test_a_file_that_is_no_text_is_out_of_date(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match="out of date"):
        check({tmp_path / "a.md": "cafe"})
