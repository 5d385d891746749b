"""SIGTERM and Ctrl-C while training: saved at once, the shell's exit code, and the same bits in the end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lives import SETTINGS, Story, remains

from training import checkpoint

WITHIN_SECONDS = 5.0


@pytest.mark.parametrize("agent", SETTINGS)
def test_a_run_that_is_stopped_again_and_again_ends_at_the_same_bits(
    agent: str, tmp_path: Path, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    stops = cases(2 if agent == "maml" else 0, 20)
    if not stops:
        pytest.skip("`make faults` stops every agent")
    story, random, slowest = Story(agent, tmp_path), np.random.default_rng([8, len(agent)]), 0.0
    for number in range(stops):
        with_signal = (signal.SIGTERM, signal.SIGINT)[number % 2]
        process = story.go_on()
        story.wait_for_work(process)
        time.sleep(float(random.uniform(0.0, 0.4)))
        process.send_signal(with_signal)
        sent = time.time()
        said, complaint = process.communicate()
        assert process.returncode == 128 + with_signal, complaint
        assert complaint == ""
        assert f"checkpoint saved; `quickstudy resume {story.run.path}` goes on" in said
        saved = checkpoint.latest(story.run.checkpoints, pytest.fail)
        slowest = max(slowest, (saved.path / checkpoint.MANIFEST).stat().st_mtime - sent)
        assert saved.counters.iteration == story.run.progress()[-1]["iteration"]  # no finished iteration is lost
    assert slowest < WITHIN_SECONDS
    last = story.go_on(story.reached() + 10 * story.iteration_steps)
    _, complaint = last.communicate()
    assert last.returncode == 0, complaint
    assert remains(story.run) == remains(story.uninterrupted())
    figure(
        f"SIGTERM and Ctrl-C: {agent}",
        f"{stops} of {stops} saved and resumed, the slowest save {slowest:.2f} s after the signal, same bits",
    )
