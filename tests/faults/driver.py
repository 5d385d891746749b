"""The real command line over the probe family, and with a fault at a chosen moment: `python driver.py train maml ...`.

QUICKSTUDY_KILL_IN_SAVE=N kills the process with SIGKILL in the N-th operation of its checkpoints on the disk, in the
middle of a write if it is one. QUICKSTUDY_FILE_SIZE=BYTES lets no file grow larger.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from sudden_death import kill_in_write  # noqa: E402

import quickstudy  # noqa: E402
from envs.families import FAMILIES  # noqa: E402


def kill_in_save(at: int) -> None:
    from training import checkpoint

    count, rename = kill_in_write(at, checkpoint), Path.rename

    def renamed(self: Path, target: Path) -> Path:
        if self.name.startswith(checkpoint.UNFINISHED):
            count()
        return rename(self, target)

    Path.rename = renamed  # type: ignore[method-assign]


if __name__ == "__main__":
    FAMILIES["probe"] = "probes:ProbeFamily"
    if limit := os.environ.get("QUICKSTUDY_FILE_SIZE"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    if at := os.environ.get("QUICKSTUDY_KILL_IN_SAVE"):
        kill_in_save(int(at))
    sys.exit(quickstudy.main())
