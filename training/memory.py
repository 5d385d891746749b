"""Does what a training is to hold fit this machine? Asked before anything is built or written."""

from __future__ import annotations

import os
from typing import Any

from agents.agent import Learner
from envs.errors import UserError
from envs.task import TaskFamily
from training.loop import TrainConfig

NUMBERS_OF_A_STEP = 4  # reward, log-probability, value, and the flags; beside observation and action


def refuse_too_large(learner: Learner[Any], family: TaskFamily[Any], config: TrainConfig) -> None:
    """Raise `UserError` where the rounds of one iteration, or of one evaluation, cannot fit the machine's memory.

    Networks, physics and copies come on top: what passes here may still be too much.
    """
    if not hasattr(os, "sysconf"):  # Windows does not say what there is in this way
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    evaluated = config.evaluate_tasks * learner.episodes_per_round * config.evaluate_rounds
    for what, settings, episodes in (
        ("an iteration", "fewer tasks or episodes", learner.meta_batch_size * learner.train_episodes * learner.rounds),
        ("an evaluation", "smaller evaluate_tasks or evaluate_rounds", evaluated if config.evaluate_every else 0),
    ):
        numbers = family.observation_size + family.action_size + NUMBERS_OF_A_STEP
        needed = 4 * numbers * family.horizon * episodes
        if needed > there:
            raise UserError(
                f"{what} of {family.name} would be {episodes} episodes of {family.horizon} steps, {needed / 2**30:.0f}"
                f" GiB; this machine has {there / 2**30:.0f} GiB: use {settings}"
            )
