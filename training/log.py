"""The figures of a run as lines of JSON and as TensorBoard events."""

from __future__ import annotations

import json
import math
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from training.checkpoint import Counters
from training.run import RunDirectory


class RunLog:
    """Appends to `progress.jsonl` and to the event files; environment steps are TensorBoard's step."""

    def __init__(self, run: RunDirectory, start: Counters) -> None:
        self._file = run.progress_path.open("a", encoding="utf-8")
        # Events beyond the checkpoint that a resumed run starts from are of iterations that will be done again.
        purge = start.env_steps + 1 if start.iteration else None
        self._events = SummaryWriter(str(run.tensorboard), purge_step=purge)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._events.close()

    def write(self, counters: Counters, metrics: dict[str, float]) -> None:
        row = {
            "iteration": counters.iteration,
            "env_steps": counters.env_steps,
            "seconds": round(counters.seconds, 3),
            "metrics": {tag: value if math.isfinite(value) else None for tag, value in metrics.items()},
        }
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for tag, value in metrics.items():
            self._events.add_scalar(tag, value, counters.env_steps)
