"""The real command line over the probe family, and with a fault at a chosen moment: `python driver.py train maml ...`.

QUICKSTUDY_KILL_IN_SAVE=N kills the process with SIGKILL in the N-th operation of its checkpoints on the disk, in the
middle of a write if it is one. QUICKSTUDY_FILE_SIZE=BYTES lets no file grow larger.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import quickstudy  # noqa: E402
from envs.families import FAMILIES  # noqa: E402


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_save(at: int) -> None:
    from training import checkpoint, files

    done = 0

    def is_now() -> bool:
        nonlocal done
        done += 1
        return done == at

    def write_durably(path: Path, data: bytes) -> None:
        if is_now():
            path.write_bytes(data[: len(data) // 2])
            die()
        files.write_durably(path, data)

    def flush_folder(folder: Path) -> None:
        if is_now():
            die()
        files.flush_folder(folder)

    rename = Path.rename

    def renamed(self: Path, target: Path) -> Path:
        if self.name.startswith(checkpoint.UNFINISHED) and is_now():
            die()
        return rename(self, target)

    checkpoint.write_durably, checkpoint.flush_folder = write_durably, flush_folder
    Path.rename = renamed  # type: ignore[method-assign]


if __name__ == "__main__":
    FAMILIES["probe"] = "probes:ProbeFamily"
    if limit := os.environ.get("QUICKSTUDY_FILE_SIZE"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    if at := os.environ.get("QUICKSTUDY_KILL_IN_SAVE"):
        kill_in_save(int(at))
    sys.exit(quickstudy.main())
