"""Errors that a user can correct.

Every message is one sentence, or two short ones: what was given, what was expected, what to do.
The command line prints the message alone and exits with status 2. Any other exception that reaches
the user is a defect of this package.
"""

from __future__ import annotations


def printable(text: object) -> str:
    r"""Return text in which every character that a terminal could obey is an escape.

    Names of files, headers of servers and fields of archives come from strangers. Printed as they
    are, they could move the cursor, change the colors or reverse the direction of writing.

    Args:
        text: Any text; other objects are converted with `str`.

    Returns:
        The text with control characters, format characters and halves of surrogate pairs as `\x1b`
        or `\u202e`. Line ends and tabs stay.

    Example:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char in "\n\t"
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


class MetaeventsError(Exception):
    """Base class of user-correctable errors. Only its subclasses are raised.

    The message is `printable`.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(MetaeventsError, ValueError):
    """An argument, a name or a number does not fit."""


class MissingError(MetaeventsError, FileNotFoundError):
    """A file or folder does not exist. The message names the command that makes it, if any does."""


class ArchiveError(MetaeventsError, ValueError):
    """A file is no metaevents archive, has an unknown version, or is truncated or corrupt."""


class RecordingError(MetaeventsError, ValueError):
    """A recording file or a folder of recordings does not have the documented form."""


class FetchError(MetaeventsError, OSError):
    """A download or an unpacking failed. The message says how to continue by hand."""


class StorageError(MetaeventsError, OSError):
    """A file cannot be written: the disk is full, or the folder takes no files."""
