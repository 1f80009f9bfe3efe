"""Fixtures of the download tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.http_server import MisbehavingServer


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    """A running HTTP server without files."""
    with MisbehavingServer() as running:
        yield running
