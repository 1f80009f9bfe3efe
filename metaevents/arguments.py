"""Checks of arguments that a user gives: numbers within bounds, and words.

Arguments are checked where an object is made, before any work is done. What comes back is a Python
number, so it can go into JSON and into the key of a random stream, whatever type it came in.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

from metaevents.errors import UsageError


def whole_number(
    name: str, value: Any, *, least: int | None = None, most: int | None = None
) -> int:
    """Return a whole number as a Python integer.

    Args:
        name: Name of the argument, for the error message.
        value: Anything with `__index__`, such as `numpy.int64`, except a truth value.
        least: The least number that is allowed; None for no bound.
        most: The greatest number that is allowed; None for no bound.

    Returns:
        The number.

    Raises:
        UsageError: `value` is no whole number (3.0 and True are none) or is out of bounds.

    Example:
        >>> whole_number("ways", 5, least=2)
        5
    """
    try:
        if _is_truth_value(value):
            raise TypeError
        number = operator.index(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise UsageError(
            f"{name}={shown(value)} is no whole number; give one{_bounds(least, most)}"
        ) from None
    if (least is not None and number < least) or (most is not None and number > most):
        raise UsageError(
            f"{name}={shown(value)} is out of range; give a whole number{_bounds(least, most)}"
        )
    return number


def finite_number(
    name: str, value: Any, *, least: float | None = None, most: float | None = None
) -> float:
    """Return a finite number as a Python float.

    Args:
        name: Name of the argument, for the error message.
        value: A Python or NumPy number, except a truth value.
        least: The least number that is allowed; None for no bound.
        most: The greatest number that is allowed; None for no bound.

    Returns:
        The number.

    Raises:
        UsageError: `value` is no number, is infinite or no number (NaN), or is out of bounds.

    Example:
        >>> finite_number("lr", 1, least=0)
        1.0
    """
    try:
        if isinstance(value, (str, bytes)) or _is_truth_value(value):
            raise TypeError
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise UsageError(
            f"{name}={shown(value)} is no finite number; give one{_bounds(least, most)}"
        ) from None
    if (least is not None and number < least) or (most is not None and number > most):
        raise UsageError(
            f"{name}={shown(value)} is out of range; give a number{_bounds(least, most)}"
        )
    return number


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return a word that is one of some choices.

    Args:
        name: Name of the argument, for the error message.
        value: What the user gave, of any type.
        choices: The words that are allowed.

    Returns:
        The word, as a plain text.

    Raises:
        UsageError: `value` is none of them.

    Example:
        >>> one_of("split", "val", ["train", "val", "test"])
        'val'
    """
    words = tuple(choices)
    if isinstance(value, str) and value in words:
        return str(value)
    raise UsageError(f"{name}={shown(value)}; choose one of {', '.join(words)}")


def _is_truth_value(value: object) -> bool:
    """Whether a value is a bool, or an array or tensor of them."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def _bounds(least: float | None, most: float | None) -> str:
    """The bounds of a number, as the end of a sentence."""
    if least is not None and most is not None:
        return f" from {least:,} to {most:,}"
    if least is not None:
        return f" of at least {least:,}"
    return "" if most is None else f" of at most {most:,}"


def shown(value: object) -> str:
    """Return a value for an error message, in at most 60 characters.

    Args:
        value: Anything, also what has no text: a whole number of more than 4,300 digits has none.
    """
    try:
        text = repr(value)
    except Exception:  # whole numbers of more than 4,300 digits, and a user's own classes
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."
