"""Interrupts of a training run: the signal waits until the run stands at a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(KeyboardInterrupt):
    """An interrupted run that stands at a checkpoint.

    Attributes:
        number: Number of the signal, from which the exit status follows.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


@contextmanager
def deferred_interrupts() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of interrupting; a second signal interrupts at once.

    Outside the main thread, where Python allows no signal handlers, nothing is collected.

    Yields:
        The numbers of the signals that have arrived; empty at first.
    """
    received: list[int] = []

    def collect(number: int, _: object) -> None:
        """Note the first signal; let the second one interrupt."""
        if received:
            raise Stopped("interrupted; run the same command to continue", number)
        received.append(number)

    try:
        previous = {
            number: signal.signal(number, collect) for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # not the main thread
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
