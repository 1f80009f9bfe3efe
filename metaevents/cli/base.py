"""Command-line scaffolding: command, parser, argument types, output, exit codes.

Exit status 0 means success. Status 2 means an error that the user can correct: one line on stderr
says what is wrong and what to do. Status 1, with a traceback, means a defect of the program. Status
130 means an interrupted command, 143 one that SIGTERM ended, 129 one whose terminal was closed; all
remove their unfinished files. The commands themselves are in `metaevents.cli.data`,
`metaevents.cli.benchmark` and `baselines.cli`; `metaevents.cli.baselines` runs the latter.

Every path option has the type `path_argument`, every number `whole_number` or `finite_number`.
Whatever a command prints passes through one place, which makes control characters visible.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import logging
import math
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from metaevents.errors import MetaeventsError, MissingError, UsageError, printable
from metaevents.files import user_path

_PRECIOUS = (".h5", ".hdf5", ".safetensors")  # endings of files that are never replaced by results

MAX_PROCESSES = 1024
"""Largest number of processes that an option takes."""
MAX_COUNT = 1_000_000
"""Largest number of episodes, queries and the like that an option takes."""
MAX_SEED = 2**63 - 1
"""Largest seed that an option takes."""


@dataclass(frozen=True)
class Command:
    """One command of a command line.

    Attributes:
        name: The word that selects the command.
        help: One line for `--help`.
        arguments: Adds the command's arguments to its parser.
        run: Runs the command with its parsed arguments. It may return an exit status.
        takes_all_words: Give all words after the name to the command as `words`, unparsed.
        for_maintainers: List it apart in `--help`, since users do not need it.
    """

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    takes_all_words: bool = False
    for_maintainers: bool = False


class HelpFormatter(argparse.HelpFormatter):
    """A help formatter that shows the default of every option, and keeps line ends of long texts.

    An option that is off or has no value by default shows none, unless its help says what holds
    without it.
    """

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        is_flag = action.nargs == 0 and not isinstance(action, argparse.BooleanOptionalAction)
        is_off = is_flag or default is None or default == argparse.SUPPRESS
        if text is None or is_off or text == argparse.SUPPRESS or "(default: " in text:
            return text
        words = default if isinstance(default, (list, tuple)) else [default]
        shown = " ".join(map(str, words)).replace("%", "%%")
        return f"{text} (default: {shown or 'none'})"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "".join(f"{indent}{line}\n" for line in text.splitlines()).rstrip("\n")
        return super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """An argument parser whose error message is one line and whose help shows every default.

    Attributes:
        takes_all_words: Put all words into `words` and parse none of them.
    """

    takes_all_words = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **settings})

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit with status 2."""
        self.exit(2, _one_line(f"{self.prog}: {message}; see `{self.prog} --help`") + "\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words; refuse `--option=--`, of which argparse makes an unchecked []."""
        words = sys.argv[1:] if args is None else list(args)
        if self.takes_all_words:
            return argparse.Namespace(words=words), []
        for word in words:
            if word.startswith("--") and word.endswith("=--"):
                self.error(f"argument {word[:-3]}: '--'; give a value")
        return super().parse_known_args(words, namespace)


# --- argument types ------------------------------------------------------------------------------


def path_argument(text: str) -> Path:
    """Return the path that a word of the command line names, with `~` expanded.

    The shell expands `~` in `--root ~/x`, but not in `--root=~/x` and not in quotes.

    Args:
        text: The word. A file whose name starts with `~` is given as `./~name`.

    Raises:
        argparse.ArgumentTypeError: The word is empty or names the home of an unknown user.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; give the path of a file or folder")
    try:
        return user_path(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def text_path_argument(text: str) -> Path:
    """Return the path that a word names, if the path can be written into a text file.

    For paths that an entry, a report or a command in them will hold.

    Args:
        text: The word; see `path_argument`.

    Raises:
        argparse.ArgumentTypeError: The path is no UTF-8 text, or for the reasons of
            `path_argument`.
    """
    path = path_argument(text)
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not UTF-8 and cannot be written into a report; rename the file or folder"
        ) from None
    return path


def check_outputs(outputs: Iterable[Path], inputs: Collection[Path] = ()) -> None:
    """Check that files can be written, and replace nothing that the user needs.

    To be called before the work, which may take long.

    Args:
        outputs: The files to write.
        inputs: The files that the command reads.

    Raises:
        MissingError: The folder of an output does not exist.
        UsageError: An output is an input, or has the name of an archive or of weights.
        OSError: An output cannot be written.
    """
    from metaevents.files import require_writable

    for path in outputs:
        folder = path.absolute().parent
        if not folder.is_dir():
            raise MissingError(f"no folder {folder} for {path.name}; make it first")
        require_writable(path)
        require_no_input(path, inputs)
        if path.suffix.lower() in _PRECIOUS:
            raise UsageError(
                f"{path} has the name of an archive or of weights; give the output another name"
            )


def require_no_input(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that is a file which the command reads.

    Args:
        output: The file to write.
        inputs: The files that the command reads.

    Raises:
        UsageError: The output is one of them.
    """
    if output.resolve() in [path.resolve() for path in inputs]:
        raise UsageError(f"{output} is read by this command; give the output another name")


def whole_number(minimum: int, maximum: int = MAX_COUNT) -> Callable[[str], int]:
    """Return an argument type: a whole number in a range.

    Args:
        minimum: Smallest number.
        maximum: Largest number.

    Returns:
        A function for `add_argument(type=...)`. It takes decimal digits only, with a sign.
    """

    def number(text: str) -> int:
        is_number = re.fullmatch(r"[+-]?[0-9]{1,99}", text)
        if not is_number or not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(
                f"{_abbreviate(text)}; give a whole number from {minimum} to {maximum}"
            )
        return int(text)

    return number


def finite_number(text: str) -> float:
    """Return the number that a word names.

    Args:
        text: The word.

    Raises:
        argparse.ArgumentTypeError: It is no number, infinite, or not a number (NaN).
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{_abbreviate(text)}; give a finite number")
    return number


def _abbreviate(text: str) -> str:
    """The word for a message, in quotes, without the end of a long one."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


# --- running a command ---------------------------------------------------------------------------


def run_cli(parser: Parser, commands: Iterable[Command], arguments: Sequence[str] | None) -> int:
    """Run the command that the arguments select; print the help if they select none.

    Every command takes `--verbose` and `--quiet`, before its name or after it.

    Args:
        parser: Parser of the program; gets one subparser per command.
        commands: All commands, in the order of `--help`.
        arguments: Words of the command line; `sys.argv[1:]` if None.

    Returns:
        The exit status.
    """
    _add_verbosity(parser)
    subparsers = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", parser_class=Parser
    )
    by_name = {command.name: command for command in commands}
    parsers = {}
    for command in by_name.values():
        listed: dict[str, Any] = {} if command.for_maintainers else {"help": command.help}
        subparser = subparsers.add_parser(command.name, description=command.help, **listed)
        subparser.takes_all_words = command.takes_all_words
        if not command.takes_all_words:
            _add_verbosity(subparser)
        command.arguments(subparser)
        parsers[command.name] = subparser
    if apart := [command for command in by_name.values() if command.for_maintainers]:
        width = max(len(command.name) for command in apart)
        lines = [f"{command.name:<{width}}  {command.help}" for command in apart]
        parser.add_argument_group("commands for maintainers", "\n".join(lines))
    status: int | None = None

    def run() -> None:
        nonlocal status
        args, unknown = parser.parse_known_args(arguments)
        chosen = parsers.get(args.command, parser)
        if unknown:
            chosen.error(f"unrecognized arguments: {' '.join(unknown)}")
        verbose, quiet = getattr(args, "verbose", False), getattr(args, "quiet", False)
        if verbose and quiet:
            chosen.error("--verbose and --quiet are both given; give one of them")
        if args.command is None:
            parser.print_help()
            return
        with _log_level(logging.INFO if verbose else logging.ERROR if quiet else None):
            status = by_name[args.command].run(args)

    return run_action(parser.prog, run) or status or 0


def _add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add the options `--verbose` and `--quiet`; one that is not given leaves no attribute."""
    for letter, name, text in (
        ("-v", "--verbose", "say what is going on, on stderr"),
        ("-q", "--quiet", "show no progress bars and no notes; errors and results are shown"),
    ):
        parser.add_argument(letter, name, action="store_true", default=argparse.SUPPRESS, help=text)


@contextmanager
def _log_level(level: int | None) -> Iterator[None]:
    """Set the level of the packages' loggers in the block; None leaves it.

    Progress bars obey the same level; see `metaevents.files.progress_bar`.
    """
    loggers = [logging.getLogger(name) for name in ("metaevents", "baselines")]
    before = [logger.level for logger in loggers]
    if level is not None:
        for logger in loggers:
            logger.setLevel(level)
    try:
        yield
    finally:
        for logger, old in zip(loggers, before, strict=True):
            logger.setLevel(old)


def print_note(text: str) -> None:
    """Print a hint, such as the next command, unless `--quiet` was given."""
    if logging.getLogger("metaevents").isEnabledFor(logging.WARNING):
        print(text)


def run_action(program: str, action: Callable[[], None]) -> int:
    """Call a function and turn the errors that a user can correct into an exit status.

    Args:
        program: Name at the start of an error line.
        action: What the program does.

    Returns:
        0, also if the process that reads stdout has ended, as `head` does; 2 for a
        `MetaeventsError`, an error of the operating system or a lack of memory; 130 for an
        interrupt; 128 and its number for another signal that ends the program.
    """
    with _checked_streams(), _unwinding_signals():
        _log_to_stderr()
        try:
            try:
                action()
            except SystemExit:  # argparse has printed a help or an error
                sys.stdout.flush()
                raise
            sys.stdout.flush()
        except _ReaderEnded:
            return 0
        except MetaeventsError as error:
            return _print_error(program, str(error))
        except ConnectionError as error:  # of another pipe or socket than stdout
            if error.errno is None:
                raise
            return _print_error(
                program,
                f"a process that this one worked with has ended ({error.strerror}), perhaps for "
                "want of memory; run the command again, with fewer processes",
            )
        except OSError as error:
            if error.errno is None:
                raise
            path = f"{error.filename}: " if error.filename else ""
            return _print_error(
                program,
                f"{path}{error.strerror}; check the path, its permissions and the free space",
            )
        except MemoryError as error:
            return _print_error(
                program,
                f"not enough memory{f' ({error})' if str(error) else ''}; close other programs, or "
                "use a machine with more memory",
            )
        except KeyboardInterrupt as interrupt:
            return _print_error(
                program,
                str(interrupt) or "interrupted; run the same command to continue",
                status=128 + getattr(interrupt, "number", signal.SIGINT),
            )
        return 0


class _Terminated(KeyboardInterrupt):
    """A signal has come that ends the program.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__("terminated; run the same command to continue")
        self.number = number


@contextmanager
def _unwinding_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, so that it removes unfinished files.

    Whoever ignores or handles a signal keeps doing so. Outside the main thread, where Python allows
    no signal handlers, nothing changes.
    """
    process = os.getpid()

    def end(number: int, _: object) -> None:
        if os.getpid() == process:
            raise _Terminated(number)
        signal.signal(number, signal.SIG_DFL)  # a worker, which has inherited this function
        os.kill(os.getpid(), number)

    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    taken = [
        number
        for number in numbers
        if number is not None
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _print_error(program: str, message: str, status: int = 2) -> int:
    """Print a message as one line on stderr; return the exit status."""
    with suppress(OSError):  # a full or closed stderr; the exit status still tells
        print(_one_line(f"{program}: {message}"), file=sys.stderr, flush=True)
    return status


def _one_line(text: str) -> str:
    """The text on one line, with visible control characters."""
    return printable(" ".join(text.split()))


def _log_to_stderr() -> None:
    """Print warnings of the package on stderr, unless the program has set up logging already."""

    class VisibleFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


# --- standard output -----------------------------------------------------------------------------


class _ReaderEnded(Exception):
    """The process that reads stdout has ended. It wants no more output."""


class _Stdout(io.TextIOBase):
    """Standard output as the commands see it; `print` writes to it.

    Control characters other than line ends and tabs are made visible, and so are characters that
    the terminal's encoding lacks. A pipe that nobody reads raises `_ReaderEnded`, so that it is not
    mistaken for another pipe. A closed stdout raises an OSError at the first character.

    Args:
        stream: `sys.stdout`, which is None if it is closed.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream is not None and bool(self._stream.isatty())

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError(errno.EBADF, "standard output is closed")
        return int(self._stream.fileno())

    def write(self, text: str) -> int:
        visible = printable(text)
        visible = visible.encode(self.encoding, "backslashreplace").decode(self.encoding)
        if text:
            self._attempt(lambda stream: stream.write(visible))
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            self._attempt(lambda stream: stream.flush())

    def _attempt(self, action: Callable[[Any], object]) -> None:
        """Do something with the stream, and name its errors."""
        if self._stream is None or getattr(self._stream, "closed", False):
            raise OSError(errno.EBADF, "it is closed", "standard output")
        try:
            action(self._stream)
        except OSError as error:
            # Nothing that is left in the stream's buffer may fail again when the program ends.
            with suppress(OSError, ValueError), Path(os.devnull).open("wb") as null:
                os.dup2(null.fileno(), self._stream.fileno())
            if isinstance(error, BrokenPipeError):
                raise _ReaderEnded from None
            raise OSError(error.errno, error.strerror, "standard output") from error


@contextmanager
def _checked_streams() -> Iterator[None]:
    """Make stdout a `_Stdout`, and closed standard streams harmless, for one command."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would take its place
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    stdout, stderr = sys.stdout, sys.stderr
    sys.stdout = _Stdout(stdout)
    if stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115, closed below
    try:
        yield
    finally:
        if sys.stderr is not stderr and stderr is None:
            sys.stderr.close()
        sys.stdout, sys.stderr = stdout, stderr


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(value, indent=2))


def print_lines(lines: Iterable[str]) -> None:
    """Print lines, each on one line of its own whatever characters it has."""
    for line in lines:
        print(visible_line(line))


def visible_line(text: object) -> str:
    r"""Return text with every line end and tab as an escape.

    Args:
        text: Text from a file, such as a citation. With line ends it could pass for other lines.
    """
    return "".join(
        char.encode("unicode_escape").decode("ascii") if char in "\n\t" else char
        for char in str(text)
    )


def command_line(*words: object) -> str:
    """Return a command that the user can copy into a shell, with quotes where words need them.

    Args:
        words: The words of the command: `str`, paths and numbers.
    """
    return shlex.join(map(str, words))


# --- arguments that several commands have --------------------------------------------------------


def json_flag(parser: argparse.ArgumentParser) -> None:
    """Add the option `--json`."""
    parser.add_argument("--json", action="store_true", help="write JSON")


def archive_argument(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument `archive`, the path of an archive."""
    parser.add_argument("archive", type=path_argument, metavar="FILE", help="an archive (.h5)")


def archive_option(
    parser: argparse.ArgumentParser, type: Callable[[str], Path] = path_argument
) -> None:
    """Add the required option `--archive`, the path of an archive or of its folder.

    Args:
        parser: Parser of the command.
        type: `path_argument`, or `text_path_argument` if the path is written into a file.
    """
    parser.add_argument(
        "--archive",
        type=type,
        required=True,
        metavar="FILE",
        help="the archive, or the folder that holds it",
    )
