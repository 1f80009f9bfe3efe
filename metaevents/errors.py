"""The errors that tell a user what to do.

Every message is one sentence (or two short ones): what was given, what was expected, what to do. The command line prints
it alone and exits with status 2; anything else that escapes is a defect of ours.
"""

from __future__ import annotations


class MetaeventsError(Exception):
    """Base of all errors that a user can mend; never raised itself."""


class UsageError(MetaeventsError, ValueError):
    """An argument, a name or a number that does not fit."""


class MissingError(MetaeventsError, FileNotFoundError):
    """A file or folder that is not there; the message names the command that makes it."""


class ArchiveError(MetaeventsError, ValueError):
    """An archive that is not one of ours, of another version, truncated or corrupt."""


class RecordingError(MetaeventsError, ValueError):
    """A recording file or folder that does not have the documented form."""


class FetchError(MetaeventsError, OSError):
    """A download or an unpacking that failed; the message says how to go on by hand."""
