"""What a terminal shows: labelled, no wider than the terminal, and in words that can be read."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from made_up import write_evaluation
from rich.console import Console

from evaluation.listing import BY_WORTH, print_summary
from evaluation.summary import StepsTo, Summary, read_summary


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    path = tmp_path_factory.mktemp("listing")
    write_evaluation(path, {"terrain": ("test",)}, name="full", tasks=4, episodes=10, long_episodes=20, long_tasks=2)
    return read_summary(path)


def printed(summary: Summary, width: int, terminal: bool = True) -> str:
    file = StringIO()
    print_summary(Console(file=file, width=width, force_terminal=terminal, color_system=None), summary)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 140, 200])
def test_tables_are_no_wider_than_the_terminal_and_no_figure_is_cut(summary: Summary, width: int) -> None:
    text = printed(summary, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for agent in summary.results[0].agents:
        point = agent.final
        assert f"{point.success:.0%} [{point.success_low:.0%}, {point.success_high:.0%}]" in text
    assert ("left out in" in text) == (width < 200)


def test_a_file_gets_every_column(summary: Summary) -> None:
    text = printed(summary, 80, terminal=False)
    assert "left out" not in text
    for column in BY_WORTH:
        assert column in text
    assert "intervals are over runs and tasks, with 1 run over tasks alone" in " ".join(text.split())


def test_means_are_called_means(summary: Summary) -> None:
    text = printed(summary, 200)
    assert "mean score" in text
    assert "interquartile mean score" in text
    bare = replace(summary, results=(replace(summary.results[0], normalised=False),), goals=())
    text = printed(bare, 200)
    assert "mean return" in text
    assert "score: random" not in text


def test_never_is_said_once(summary: Summary) -> None:
    """It said "never (92 % never)"."""
    split = summary.results[0]
    (rl2,) = [agent for agent in split.agents if agent.agent == "rl2"]
    shown = {
        words: StepsTo(median, never)
        for words, median, never in (
            ("never in 92% of runs", None, 0.92), (" never ", None, 1.0), ("40 (12% never)", 40.0, 0.12)
        )
    }  # fmt: skip
    for words, found in shown.items():
        agent = replace(rl2, steps_to={"80": found})
        text = printed(replace(summary, results=(replace(split, agents=(agent,)),), goals=()), 200)
        assert words in text
        assert "never (" not in text
