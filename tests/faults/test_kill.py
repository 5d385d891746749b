"""kill -9 at any moment, inside a save or not: the run goes on, and ends at the bits of one that was left alone."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lives import SETTINGS, Story, remains

from agents.catalogue import TRAINABLE
from training import checkpoint

OPERATIONS = 8  # on the disk, of one checkpoint: three writes, two flushes, a rename; and the next one's first


def test_every_agent_that_trains_has_a_story() -> None:
    assert set(SETTINGS) == set(TRAINABLE)


@pytest.mark.parametrize("agent", SETTINGS)
def test_a_run_that_is_killed_again_and_again_ends_at_the_same_bits(
    agent: str, tmp_path: Path, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    kills = cases(2 if agent == "rl2" else 0, 50)
    if not kills:
        pytest.skip("`make faults` kills every agent")
    story, random, in_saves = Story(agent, tmp_path), np.random.default_rng([7, len(agent)]), 0
    for number in range(kills):
        if number % 2:  # in a save, at an operation of its own choice
            at = int(random.integers(1, 2 * OPERATIONS))
            process = story.go_on(QUICKSTUDY_KILL_IN_SAVE=str(at))
        else:
            process = story.go_on()
            story.wait_for_work(process)
            time.sleep(float(random.uniform(0.0, 0.4)))
            process.kill()
        _, complaint = process.communicate()
        assert process.returncode == -signal.SIGKILL, complaint
        in_saves += number % 2 or any(story.run.checkpoints.glob(f"{checkpoint.UNFINISHED}*"))
    last = story.go_on(story.reached() + 10 * story.iteration_steps)
    _, complaint = last.communicate()
    assert last.returncode == 0, complaint
    assert remains(story.run) == remains(story.uninterrupted())
    assert not list(story.run.path.rglob(".*unfinished*"))
    figure(f"kill -9: {agent}", f"{kills} of {kills} resumed ({in_saves} killed inside a save), same bits at the end")
