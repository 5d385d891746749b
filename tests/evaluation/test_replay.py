"""The films of a benchmark show the episodes that were measured, on a task that the table chooses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from probes import ProbeFamily
from rich.console import Console

from agents.catalogue import AGENTS
from envs.errors import UserError
from envs.families import FAMILIES
from envs.task import Task
from evaluation import replay as films
from evaluation.benchmark import run_benchmark
from evaluation.film import FilmConfig, film_actors
from evaluation.grid import Cell, grid_of
from evaluation.presets import ARMS, Arm, LongBudget, Preset
from evaluation.protocol import Budget, held_out_tasks
from evaluation.recording import record_adaptation
from evaluation.replay import choose_task, replay
from evaluation.table import Episode, read_episodes, write_episodes
from evaluation.video import read_title

TASKS = held_out_tasks(ProbeFamily(), "test", 5, 0)


@pytest.fixture(autouse=True)
def probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "probe", "probes:ProbeFamily")
    monkeypatch.setitem(AGENTS, "scratch", "probes:ProbeLearner")
    monkeypatch.setitem(ARMS, "scratch", Arm("scratch", weights=None))
    monkeypatch.setitem(ARMS, "scratch-long", Arm("scratch", weights=None, long=True))


def measured(folder: Path, tasks: range, **changes: Any) -> Cell:
    """A cell of five tasks or fewer, played and written."""
    budget = Budget(**{"episodes": 6, "probe_episodes": 3, **changes})
    cell = Cell("scratch", "scratch", "probe", 1, "test", None, tasks, budget)
    write_episodes(cell.path(folder), cell.play(TASKS, threads=1))
    return cell


@pytest.mark.parametrize("tasks", [range(5), range(2, 4)])
@pytest.mark.parametrize("explore_probes", [False, True])
def test_every_filmed_episode_is_the_one_in_the_table(tasks: range, explore_probes: bool, tmp_path: Path) -> None:
    cell = measured(tmp_path, tasks, explore_probes=explore_probes)
    rows = read_episodes(cell.path(tmp_path))
    for task in tasks:
        clips = replay(cell, TASKS, task, tmp_path, threads=2)
        assert [(clip.role, clip.episodes_spent) for clip in clips] == [
            ("probe", 0), ("adapt", 0), ("adapt", 1), ("probe", 2), ("adapt", 2), ("adapt", 3), ("probe", 4),
            ("adapt", 4), ("adapt", 5), ("probe", 6),
        ]  # fmt: skip
        for clip in clips:
            row = next(r for r in rows if (r.task, r.role, r.episode) == (task, clip.role, clip.episodes_spent))
            assert (round(clip.episode_return, 6), clip.success) == (row.episode_return, row.success)
            assert clip.env_steps == row.env_steps
            # What is drawn is that episode of that task, too: its positions give the reward back.
            near = np.clip(1.0 - np.abs(clip.qpos[1:, 0] - TASKS[task].goal_m), 0.0, 1.0)
            assert clip.reward == pytest.approx(near, abs=1e-6)
            assert clip.episode_return == pytest.approx(near.sum(), abs=1e-5)


def test_a_task_alone_meets_other_noise(tmp_path: Path) -> None:
    """Which is why the cell is played again: the same seeds on the one task are not what was measured."""
    cell = measured(tmp_path, range(5))
    agent, family, _ = cell.load()
    alone = record_adaptation(agent, family, TASKS[3], 6, 0)
    assert [c.episode_return for c in alone] != [c.episode_return for c in replay(cell, TASKS, 3, tmp_path)]


@pytest.mark.parametrize("change", [{"episode_return": 1.25}, {"success": True}, {"env_steps": 7}])
def test_a_replay_that_differs_from_the_table_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    cell = measured(tmp_path, range(5))
    rows = read_episodes(cell.path(tmp_path))
    other = [replace(row, **change) if (row.task, row.episode, row.role) == (2, 3, "adapt") else row for row in rows]
    write_episodes(cell.path(tmp_path), other)
    assert replay(cell, TASKS, 1, tmp_path)
    with pytest.raises(UserError, match=r"task 2: episode 3 \(adapt\) is not what was played again.*delete .*\.csv"):
        replay(cell, TASKS, 2, tmp_path)


def test_a_table_that_lacks_an_episode_is_refused(tmp_path: Path) -> None:
    cell = measured(tmp_path, range(5))
    rows = read_episodes(cell.path(tmp_path))
    write_episodes(cell.path(tmp_path), [row for row in rows if (row.episode, row.role) != (6, "probe")])
    with pytest.raises(UserError, match="task 2: the number of episodes, 9, is not what was played again"):
        replay(cell, TASKS, 2, tmp_path)


def rows_of(*tasks: tuple[float, bool, bool, float]) -> Iterator[Episode]:
    """A table by hand. Of each task: return before, success of the first episode, the final probe's success, return."""
    for number, (before, first, solved, after) in enumerate(tasks):
        blank = Episode("probe", "1", "test", "rl2", 0, number, 0, "probe", 0, before, False)
        yield blank
        yield replace(blank, role="adapt", success=first)
        for success in (solved, True):  # two initial states: one of them always succeeds
            yield replace(blank, episode=1, env_steps=10, episode_return=after, success=success)


@pytest.mark.parametrize(
    ("tasks", "chosen", "why"),
    [
        # Task 0 gains most but ends unsolved; of the solved ones task 1 gains most but is solved at once.
        (
            [(0.0, False, False, 9.0), (1.0, True, True, 6.0), (2.0, False, True, 5.0), (3.0, False, True, 5.0)],
            2,
            "one of the 2 of 4 tasks where RL²'s first episode fails and its final probe succeeds",
        ),
        (
            [(0.0, True, True, 9.0), (1.0, False, True, 2.0)],
            1,
            "the only one of 2 tasks where RL²'s first episode fails and its final probe succeeds",
        ),
        (
            [(0.0, False, False, 9.0), (1.0, True, True, 2.0), (1.0, True, True, 3.0)],
            2,
            "RL² solves 2 of 3 tasks, and in each of them its first episode already succeeds",
        ),
        (
            [(0.0, False, False, 1.0), (1.0, True, False, 3.0)],
            1,
            "RL² solves none of 2 tasks in its final probe; in this one its return rises most",
        ),
    ],
)
def test_the_task_is_chosen_by_the_final_probe(tasks: Any, chosen: int, why: str) -> None:
    assert choose_task(list(rows_of(*tasks))) == (chosen, why)


def test_an_agent_that_does_not_adapt_says_so() -> None:
    rows = [row for row in rows_of((0.0, False, True, 1.0)) if row.episode == 0 and row.role == "probe"]
    assert choose_task(rows) == (0, "RL² does not adapt; it solves 0 of 1 tasks")


def preset(**changes: Any) -> Preset:
    settings: dict[str, Any] = {
        "families": ("probe",), "arms": ("scratch", "random", "scratch-long"), "tasks": 4, "episodes": 4,
        "probe_episodes": 2, "film": ("scratch", "random"), "long": LongBudget(env_steps=60, tasks=3),
    }  # fmt: skip
    return Preset("small", **{**settings, **changes})


def benchmark(preset: Preset, folder: Path, report: bool = False) -> str:
    console = Console(file=StringIO(), width=200)
    run_benchmark(preset, folder, threads=1, console=console, report=report)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.usefixtures("drawing")
class TestBenchmark:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(films, "LOOK", FilmConfig(width=64, height=48, fps=4, shadows=False))

    def test_its_film_says_why_the_task_was_chosen(self, tmp_path: Path) -> None:
        out = benchmark(preset(), tmp_path / "out", report=True)
        film = tmp_path / "out" / "films" / "probe-test.mp4"
        assert f"film: {film}" in out
        rows = read_episodes(tmp_path / "out" / "episodes.csv")
        task, why = choose_task([row for row in rows if row.agent == "scratch"])
        assert read_title(film) == f"probe, held-out task {task}: {why}"
        assert why in (tmp_path / "out" / "report.html").read_text(encoding="utf-8").replace("&#x27;", "'")

    def test_a_film_of_arms_with_budgets_of_their_own_shows_a_task_of_both(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown: list[Task] = []

        def watched(actors: Any, family: Any, task: Task, *values: Any, **options: Any) -> Path:
            shown.append(task)
            return film_actors(actors, family, task, *values, **options)

        monkeypatch.setattr(films, "film_actors", watched)
        both = preset(film=("scratch", "scratch-long"))
        assert "film: " in benchmark(both, tmp_path / "out")
        assert shown[0] in held_out_tasks(ProbeFamily(), "test", 3, 0)

    def test_without_a_true_replay_there_is_no_film_and_all_the_rest(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "out"
        benchmark(preset(film=()), folder)
        cell = grid_of(preset()).cells[0]
        rows = cell.rows(folder)
        write_episodes(cell.path(folder), [replace(row, episode_return=row.episode_return + 1e-6) for row in rows])
        out = benchmark(preset(), folder)
        assert "no film: probe/test scratch seed 0, task" in out
        assert not (folder / "films").exists()
        assert (folder / "summary.json").exists()
