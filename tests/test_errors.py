"""Messages that strangers have a part in."""

from __future__ import annotations

import pickle

import pytest

from metaevents.errors import FetchError, MetaeventsError, MissingError, UsageError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \u00e9\u4e2d", "plain \u00e9\u4e2d"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J\x07\x7f\r", r"\x9b2J\x07\x7f\r"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\udc80", r"\udc80"),
        ("a\nb\tc", "a\nb\tc"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_a_terminal_could_obey_is_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).encode()


@pytest.mark.parametrize("kind", MetaeventsError.__subclasses__())
def test_every_error_is_printable_and_survives_pickling(kind: type[MetaeventsError]) -> None:
    error = kind("a \x1b[2J b")
    assert str(error) == r"a \x1b[2J b"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert kind in (FetchError, MissingError, UsageError) or isinstance(error, MetaeventsError)
