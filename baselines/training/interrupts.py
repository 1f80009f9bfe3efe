"""Interrupts of a training run: the signal waits until the run stands at a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(KeyboardInterrupt):
    """An interrupted run that stands at a checkpoint."""


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
            raise KeyboardInterrupt
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
