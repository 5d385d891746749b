"""SIGKILL to one's own process in the middle of an operation on the disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def kill_in_write(at: int, module: ModuleType) -> Callable[[], None]:
    """Kill this process in the `at`-th write or flush that `module` makes, in the middle of a write if it is one.

    Returns what counts another operation, and dies in it if it is its turn. 0: in none.
    """
    write, flush, left = module.write_durably, module.flush_folder, [at]

    def count(before_dying: Callable[[], object] = lambda: None) -> None:
        left[0] -= 1
        if left[0] == 0:
            before_dying()
            os.kill(os.getpid(), signal.SIGKILL)

    def write_durably(path: Path, data: bytes) -> None:
        count(lambda: path.write_bytes(data[: len(data) // 2]))
        write(path, data)

    def flush_folder(folder: Path) -> None:
        count()
        flush(folder)

    module.write_durably, module.flush_folder = write_durably, flush_folder  # type: ignore[attr-defined]
    return count
