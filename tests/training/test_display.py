"""What a person sees of a training, on a terminal and in a file."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from training.checkpoint import Counters
from training.display import Display

METRICS = {
    "rollout/round_1_return": 3.2,
    "rollout/round_2_return": 1235.75,
    "rollout/success_rate": 0.3,
    "adapt/round_1_return": -1200.3,
    "adapt/round_4_return": 5.5,
}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_bar_percentage_and_figures_stay_after_an_update(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    with Display(console, "ppo-robust on cheetah-vel-2017", 3_000_000, Counters()) as display:
        display.show(Counters(iteration=1, env_steps=1_000_000), METRICS)
    last = re.split(r"\x1b\[2K", out.getvalue())[-1]
    bar, *figures = last.splitlines()
    assert "ppo-robust on cheetah-vel-2017 ━━" in bar
    assert " 33% " in bar
    assert " left" in bar
    said = " ".join(line.strip() for line in figures)
    assert "success 0.30 · held-out -1200.30 -> 5.50" in said
    assert all(len(line) <= width for line in [bar, *figures])


def test_a_file_gets_the_same_in_one_line() -> None:
    out = io.StringIO()
    with Display(Console(file=out, width=80), "rl2 on grasp", 100, Counters()) as display:
        display.show(Counters(iteration=1, env_steps=100), METRICS)
    (line,) = out.getvalue().splitlines()
    assert re.fullmatch(r"rl2 on grasp 100% 100 steps · 0:00:00 left · .* · held-out -1200.30 -> 5.50", line)
