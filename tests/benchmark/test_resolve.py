"""The learner that a command line names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from support.simple_learners import PROTOCOL, ClassMeans, evaluate
from support.torchrun import python

import metaevents as me
from metaevents.benchmark.resolve import load_learner
from metaevents.errors import UsageError


@pytest.mark.parametrize("attribute", ["ClassMeans", "factory", "ready"])
def test_a_class_a_factory_and_an_object_are_the_same_learner(
    digits_root: Path, method_folder: Path, attribute: str
) -> None:
    ds = me.DoubleNMNIST(digits_root, split="test")
    sys.path.insert(0, str(method_folder))
    try:
        report = evaluate(load_learner(f"my_method:{attribute}", ds), ds)
    finally:
        sys.path.remove(str(method_folder))
        sys.modules.pop("my_method", None)
    assert report.accuracy == evaluate(ClassMeans(), ds).accuracy


def test_random_weights_are_the_same_in_every_run(
    digits: me.DoubleNMNIST, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random_method.py").write_text(
        "import random, numpy, torch\n"
        "FIRST = torch.rand(1).item()\n"
        "class Learner:\n"
        "    def __init__(self):\n"
        "        self.drawn = FIRST, torch.rand(1).item(), numpy.random.rand(), random.random()\n",
        "utf-8",
    )
    monkeypatch.chdir(tmp_path)
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        drawn.append(load_learner("random_method:Learner", digits).drawn)
        assert torch.equal(torch.get_rng_state(), before)
        sys.modules.pop("random_method")
    sys.path.remove(str(tmp_path))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ("my_method", "give module:attribute"),
        ("nowhere:Learner", "No module named 'nowhere'"),
        ("my_method:Nothing", "has no attribute 'Nothing'"),
        ("my_method:no_learner", "is no learner"),
        ("my_method:fails", "episode 0: the learner failed in adapt: RuntimeError: no weights"),
        ("floor:basement", "no trivial baseline 'basement'; choose one of chance"),
    ],
)
def test_errors_are_one_line_and_exit_status_2(
    digits_root: Path, method_folder: Path, learner: str, message: str
) -> None:
    done = python(
        "-m", "metaevents", "evaluate", learner, "--archive", digits_root,
        "--protocol", PROTOCOL, "--episodes", 2, cwd=method_folder,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


BROKEN_MODULES = {
    "syntax": ("def f(:\n", "SyntaxError: invalid syntax (broken.py, line 1)"),
    "indentation": ("def f():\npass\n", "IndentationError: expected an indented block"),
    "null byte": ("a = 1\0\n", "null bytes"),
    "no text": (b"a = '\xff'\n".decode("latin-1"), "broken.py"),
    "error": ("a = 1\nb = a / 0\n", "ZeroDivisionError: division by zero"),
    "exit": ("import sys\nsys.exit('usage')\n", "SystemExit: usage"),
    "import": ("import math\nimport nowhere\n", "No module named 'nowhere'"),
    "recursion": ("def f(): f()\nf()\n", "RecursionError"),
    "attribute": ("import math\nmath.nothing\n", "has no attribute 'nothing'"),
}


@pytest.mark.parametrize("kind", BROKEN_MODULES)
def test_a_module_that_cannot_be_imported_is_an_error_with_file_and_line(
    kind: str, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, message = BROKEN_MODULES[kind]
    (tmp_path / "broken.py").write_text(source, "latin-1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    ds = me.DoubleNMNIST(digits_root, split="test")
    with pytest.raises(UsageError) as error:
        load_learner("broken:Learner", ds)
    assert message in str(error.value)
    assert str(error.value).startswith("learner 'broken:Learner'")
    if kind in ("error", "exit", "import", "attribute"):
        assert f"({tmp_path / 'broken.py'}, line 2)" in str(error.value)


@pytest.mark.parametrize("path", ["..x:y", ":", "a:", ".:.", "a b:c", "os:path.no.thing", "\x1b:x"])
def test_odd_import_paths_are_our_error(digits_root: Path, path: str) -> None:
    ds = me.DoubleNMNIST(digits_root, split="test")
    with pytest.raises(UsageError):
        load_learner(path, ds)


BROKEN = {
    "syntax": "def adapt(x, y, ways)\n    return x\n",
    "tabs": "if True:\n\tx = 1\n        y = 2\n",
    "null": "x = 1\0\n",
    "latin": b"x = '\xe9'\n",
    "fails": "raise RuntimeError('no data')\n",
    "exits": "raise SystemExit(0)\n",
    "deep": "x = " + "(" * 500 + ")" * 500 + "\n",
    "recursion": "def f():\n    return f()\nf()\n",
    "needs": "import a_module_that_is_not_there\n",
    "made_exits": "class Learner:\n    def __init__(self):\n        raise SystemExit(0)\n",
    "made_fails": "class Learner:\n    def __init__(self):\n        raise KeyError('x')\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_whatever_is_wrong_with_a_module_is_an_error_with_its_file_and_line(
    digits: me.DoubleNMNIST, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = BROKEN[name]
    data = source if isinstance(source, bytes) else source.encode()
    (tmp_path / f"broken_{name}.py").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError) as caught:
        load_learner(f"broken_{name}:Learner", digits)
    message = str(caught.value)
    assert f"broken_{name}" in message
    if name in ("syntax", "tabs", "deep", "fails", "exits", "needs", "made_exits", "made_fails"):
        assert f"broken_{name}.py, line" in message


@pytest.mark.parametrize(
    "path",
    ["", ":", "a:", ":b", "..:a", ".a:b", "a..b:c", "os:.", "os:path.", "math:hypot.x", "\0:a"],
)
def test_odd_paths_of_a_learner_are_refused(digits: me.DoubleNMNIST, path: str) -> None:
    with pytest.raises(UsageError, match="learner"):
        load_learner(path, digits)
