"""Ctrl-C and SIGTERM: work that can be done again is given up at once, writing is finished first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class Interrupted(BaseException):
    """Training was stopped by a signal; the run can be resumed. Not an `Exception`, so that nothing swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal = signal_number

    @property
    def exit_code(self) -> int:
        """What a shell expects: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


class StopSignals:
    """Within this context SIGINT and SIGTERM are noted in `received`, and raise `Interrupted` where that does no harm.

    That is inside `interruptible()`, at once. Elsewhere, in the middle of writing say, the first one waits for the next
    such block, and a second one raises wherever it comes. Handlers can be set by the main thread alone; elsewhere
    signals stay as they were.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._interruptible = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """What this block does may be given up at any moment. Raises `Interrupted`."""
        self._interruptible = True
        try:
            if self.received is not None:
                raise Interrupted(self.received)
            yield
        except Exception as error:
            if self.received is None:
                raise
            # Raised in a callback of a library that is written in C, it came out as an error of that library's own.
            raise Interrupted(self.received) from error
        finally:
            self._interruptible = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        insisted, self.received = self.received is not None, number
        if self._interruptible or insisted:
            self._interruptible = False
            raise Interrupted(number)
