"""Other libraries that some tests need; a test is skipped where one is missing."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


def import_or_skip(module: str, advice: str = "pip install -e '.[test-extra]'") -> Any:
    """Return a module of another library; skip the test, with the reason, if there is none.

    A library may also fail with a RuntimeError or an OSError: those that need torchvision do where
    its build does not fit torch's.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).partition("\n")[0]
        pytest.skip(f"{module} cannot be imported ({reason}); {advice}", allow_module_level=True)
