"""Ctrl-C and SIGTERM while training: the first asks, the second insists."""

from __future__ import annotations

import os
import signal
import threading
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
    """Within this context the first SIGINT or SIGTERM is only noted in `received`; the second raises `Interrupted`.

    Handlers can be set by the main thread alone; elsewhere signals stay as they were.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise Interrupted(number)
        self.received = number
        # Written to the descriptor: a handler may have interrupted a print and must not enter another.
        os.write(2, b"\nsaving a checkpoint at the end of this iteration; once more stops at once\n")
