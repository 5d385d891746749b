"""Training holds no more memory and no more open files after half an hour than after its first minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lives import Story

MEGABYTES = 2**20


def resident(process: int) -> float:
    """Megabytes of memory that a process holds."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * 4096 / MEGABYTES


def open_files(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("agent", ["rl2", "maml", "ppo-robust"])
def test_memory_and_open_files_are_flat(
    agent: str, tmp_path: Path, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    seconds = cases(6, 1800) if agent == "rl2" else cases(0, 600)
    if not seconds:
        pytest.skip("`make faults` watches every agent: rl2 for half an hour, the others for ten minutes")
    story = Story(agent, tmp_path)
    process = story.go_on()
    story.wait_for_work(process)
    begun, held, files = time.monotonic(), [], []
    while time.monotonic() < begun + seconds:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(seconds / 60)
        held.append(resident(process.pid))
        files.append(open_files(process.pid))
    process.terminate()
    process.communicate()
    early, late = np.median(held[15:30]), np.median(held[-15:])  # after a quarter, and in the end
    iterations = story.run.progress()[-1]["iteration"]
    assert max(files[15:]) <= max(files[:15]) + 1  # a checkpoint may be open just then
    assert late < early + 0.02 * early
    figure(
        f"flat: {agent}",
        f"{seconds} s, {iterations} iterations: {early:.0f} MB in the second quarter, {late:.0f} MB in the last,"
        f" {max(files)} open files at most",
    )
