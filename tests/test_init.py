"""The package's names: imported at their first use, and no others."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import metaevents as me


def test_every_public_name_can_be_imported() -> None:
    for name in me.__all__:
        assert getattr(me, name).__name__ == name


def test_every_submodule_is_listed() -> None:
    modules = {module.name for module in pkgutil.iter_modules(me.__path__)}
    submodules = modules - {"__main__", "_version", "frames_triton"}  # the last needs a GPU's torch
    assert submodules <= set(dir(me))
    for name in submodules:
        assert getattr(me, name).__name__ == f"metaevents.{name}"


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'metaevents' has no attribute 'nonsense'"):
        _ = me.nonsense
    with pytest.raises(AttributeError):
        _ = me.py  # a file of the package, but no module


def test_importing_the_package_imports_none_of_its_dependencies() -> None:
    code = "import sys, metaevents; print(*{'numpy', 'torch', 'h5py'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()
