"""The figures of a run as lines of JSON and as TensorBoard events."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from envs.errors import UserError
from training.checkpoint import Counters
from training.files import BINARY, NO_LINKS, cannot_write
from training.run import RunDirectory


class Appender:
    """Adds to the end of a file at once, so that a crash loses nothing; what a full disk refuses is kept for later."""

    def __init__(self, path: Path) -> None:
        """Raises `UserError` where the file cannot be opened, or is a link."""
        self._pending = b""
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_LINKS | BINARY, 0o644)
        except OSError as error:
            raise UserError(cannot_write(path, 0, error)) from None

    def write(self, data: bytes) -> None:
        self._pending += data
        with contextlib.suppress(OSError):
            self.flush()

    def flush(self) -> None:
        """Write what is left to write. Raises `OSError`."""
        while self._pending:
            self._pending = self._pending[os.write(self._descriptor, self._pending) :]

    def close(self) -> None:
        os.close(self._descriptor)


class RunLog:
    """Appends to `progress.jsonl` and to the event files; environment steps are TensorBoard's step.

    An event file is written here rather than by TensorBoard's own writer, whose thread keeps events for two minutes and
    ends with a traceback when the disk is full.
    """

    def __init__(self, run: RunDirectory, start: Counters) -> None:
        """Raises `UserError` where nothing can be written."""
        try:
            run.tensorboard.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(cannot_write(run.tensorboard, 0, error)) from None
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{start.iteration}"
        self._lines = Appender(run.progress_path)
        self._events = Appender(run.tensorboard / name)
        self._records = RecordWriter(self._events)
        self._write_event(Event(file_version="brain.Event:2"))
        if start.iteration:  # events beyond the checkpoint are of iterations that will be done again
            self._write_event(Event(step=start.env_steps + 1, session_log=SessionLog(status=SessionLog.START)))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lines.close()
        self._events.close()

    def write(self, counters: Counters, metrics: dict[str, float]) -> None:
        row = {
            "iteration": counters.iteration,
            "env_steps": counters.env_steps,
            "seconds": round(counters.seconds, 3),
            "metrics": {tag: value if math.isfinite(value) else None for tag, value in metrics.items()},
        }
        self._lines.write((json.dumps(row) + "\n").encode())
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        self._write_event(Event(step=counters.env_steps, summary=Summary(value=values)))

    def flush(self) -> None:
        """Write what a full disk has refused so far. Raises `OSError`."""
        self._lines.flush()
        self._events.flush()

    def _write_event(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
