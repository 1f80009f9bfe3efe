"""Contact sheets and animations of composed samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command_line import error_line

from metaevents.cli import main
from metaevents.errors import UsageError
from metaevents.show import show


@pytest.fixture(scope="module")
def built(nmnist_root: Path) -> Path:
    return nmnist_root / "double-nmnist.h5"


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


@pytest.mark.parametrize("classes", ["", ",", " , "])
def test_no_class_is_an_error(
    built: Path, tmp_path: Path, classes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.png"
    line = error_line(capsys, "show", built, f"--classes={classes}", "--out", out)
    assert "no class to draw; give class names such as 35,72" in line


def test_a_class_that_is_given_twice_is_drawn_once(built: Path, tmp_path: Path) -> None:
    for name, classes in (("once", "35"), ("often", ",".join(["35"] * 1000))):
        out = tmp_path / f"{name}.png"
        assert main(["show", str(built), "--classes", classes, "--out", str(out)]) == 0
    assert (tmp_path / "once.png").read_bytes() == (tmp_path / "often.png").read_bytes()


def test_classes_come_in_any_form(built: Path, tmp_path: Path) -> None:
    content = [
        show(built, tmp_path / "a.png", classes=classes).read_bytes()
        for classes in (["35", "72"], (name for name in ("35", "72")), np.array(["35", "72"]))
    ]
    assert content[0] == content[1] == content[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "35"}, "classes='35' is no list of names; give one such as"),
        ({"classes": 35}, "classes=35 is no list of names"),
        ({"classes": [["35"]]}, r"no class \['35'\]; give class names such as"),
        ({"classes": np.array(35)}, r"no class array\(35\); give class names"),
        ({"classes": iter([])}, "no class to draw; give"),
        ({"split": ["test"]}, "choose one of train, val, test"),
        ({"seed": -1}, "seed=-1 is out of range; give a whole number from 0 to"),
        ({"seed": 2**64}, "is out of range; give a whole number from 0 to"),
        ({"seed": "1"}, "seed='1' is no whole number"),
    ],
)
def test_other_options_are_refused(
    built: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        show(built, tmp_path / "a.png", **options)
    assert not (tmp_path / "a.png").exists()
