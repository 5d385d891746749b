"""A benchmark runs its grid once, cell by cell, and continues where it was interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import assets
from agents import catalogue
from agents.catalogue import AGENTS
from envs.errors import UserError
from envs.families import FAMILIES
from evaluation import benchmark, grid
from evaluation.benchmark import evaluate, run_benchmark
from evaluation.grid import grid_of
from evaluation.metrics import interquartile_mean
from evaluation.presets import ARMS, PRESETS, Arm, LongBudget, Preset, find_preset
from evaluation.summary import read_protocol, read_summary
from evaluation.table import read_episodes, read_tasks
from training.files import LOCK, locked
from training.loop import TrainConfig
from training.run import make_run_config
from training.train import train

ROOT = Path(__file__).parent.parent.parent


def small(**changes: Any) -> Preset:
    settings: dict[str, Any] = {
        "families": ("probe",),
        "splits": ("test", "ood"),
        "arms": ("probe", "scratch", "random", "scratch-long"),
        "seeds": 2,
        "tasks": 3,
        "episodes": 10,
        "probe_episodes": 3,
        "long": LongBudget(env_steps=200, tasks=3),
        "film": (),
    }
    return Preset("small", **{**settings, **changes})


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for `assets/`, with one trained probe agent in it."""
    root = tmp_path_factory.mktemp("assets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "probe", "probes:ProbeFamily")
        patch.setitem(AGENTS, "probe", "probes:ProbeLearner")
        patch.setattr(catalogue, "TRAINABLE", (*catalogue.TRAINABLE, "probe"))
        (root / "checkpoints" / "probe").mkdir(parents=True)
        config = make_run_config("probe", "probe", train=TrainConfig(steps=500, seed=7, threads=1, evaluate_every=0))
        train(config, root / "checkpoints" / "probe" / "probe", console=silent())
    return root


@pytest.fixture(autouse=True)
def probes(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "probe", "probes:ProbeFamily")
    monkeypatch.setitem(AGENTS, "probe", "probes:ProbeLearner")
    monkeypatch.setitem(ARMS, "probe", Arm("probe", weights="probe"))
    monkeypatch.setitem(AGENTS, "scratch", "probes:ProbeLearner")
    monkeypatch.setitem(ARMS, "scratch", Arm("scratch", weights=None))
    monkeypatch.setitem(ARMS, "scratch-long", Arm("scratch", weights=None, long=True))
    monkeypatch.setattr(catalogue, "TRAINABLE", (*catalogue.TRAINABLE, "probe"))
    monkeypatch.setattr(assets, "path", lambda name: shipped / name)


def silent() -> Console:
    return Console(file=StringIO(), force_terminal=False, width=200)


def run(preset: Preset, directory: Path) -> str:
    console = silent()
    run_benchmark(preset, directory, threads=1, console=console, report=False)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cells that were computed, in order."""
    names: list[str] = []
    real: Callable[..., Any] = grid.adapt_to_tasks

    def watched(*values: Any, name: str, seed: int, **options: Any) -> Any:
        names.append(f"{values[3]}.{name}.{seed}" + (f" from {options['first']}" if options["first"] else ""))
        return real(*values, name=name, seed=seed, **options)

    monkeypatch.setattr(grid, "adapt_to_tasks", watched)
    return names


def test_the_grid_is_measured_whole(tmp_path: Path, played: list[str]) -> None:
    text = run(small(), tmp_path / "out")
    # One training run of `probe` is there, so it has one seed; the others start from nothing and have as many as asked.
    usual = [
        f"{split}.{cell}"
        for split in ("test", "ood")
        for cell in ("probe.0", "scratch.0", "scratch.1", "random.0", "random.1")
    ]
    assert played == [*usual, "test.scratch-long.0", "test.scratch-long.0 from 2"]
    rows = read_episodes(tmp_path / "out" / "episodes.csv")
    assert len({(row.split, row.agent, row.seed, row.task) for row in rows}) == 2 * 5 * 3 + 3
    spent = {row.agent: max(other.env_steps for other in rows if other.agent == row.agent) for row in rows}
    assert spent == {"probe": 100, "scratch": 100, "random": 0, "scratch-long": 200}
    assert {row.task for row in rows if row.agent == "scratch-long"} == {0, 1, 2}
    tasks = read_tasks(tmp_path / "out" / "tasks.json")
    assert [len(tasks["probe"][split]) for split in ("test", "ood")] == [3, 3]
    protocol = read_protocol(tmp_path / "out")
    assert protocol.checkpoints["probe/probe/0"].startswith("probe/probe, ")
    assert protocol.long == LongBudget(env_steps=200, tasks=3)
    summary = read_summary(tmp_path / "out")
    assert summary.protocol == protocol
    assert [agent.agent for agent in summary.results[0].agents if agent.long] == ["scratch-long"]
    assert "[ 1/12] probe/test probe seed 0" in text
    assert "[12/12] probe/test scratch-long seed 0 tasks 2-2" in text
    assert "probe 1, test; 100 steps on each task" in text


def test_an_interrupted_benchmark_continues(tmp_path: Path, played: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run(small(), tmp_path / "whole")
    whole = list(played)
    played.clear()
    finish = benchmark.write_episodes

    def interrupt(path: Path, rows: Any) -> None:
        if len(played) == 4:
            raise KeyboardInterrupt
        finish(path, rows)

    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "write_episodes", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(small(), tmp_path / "cut")
    assert not (tmp_path / "cut" / "episodes.csv").exists()
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "cut" / "cells").glob("*.csv")}
    assert len(kept) == 3

    text = run(small(), tmp_path / "cut")
    assert played == [*whole[:4], *whole[3:]]  # the fourth was lost and is computed again, the first three are not
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert text.count(" kept\n") == 3
    for name in ("episodes.csv", "tasks.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert read_summary(tmp_path / "cut").results == read_summary(tmp_path / "whole").results

    played.clear()
    run(small(), tmp_path / "cut")
    assert played == []


def test_a_damaged_cell_is_neither_accepted_nor_thrown_away(tmp_path: Path, played: list[str]) -> None:
    preset = small(splits=("test",), arms=("scratch", "random"), seeds=1)
    run(preset, tmp_path)
    whole = (tmp_path / "episodes.csv").read_bytes()
    cell = tmp_path / "cells" / "probe.test.random.0.csv"
    good = cell.read_bytes()
    damaged = good.replace(b"0.", b"1.", 1)
    cell.write_bytes(damaged)
    (tmp_path / "cells" / "probe.test.scratch.0.csv").unlink()
    played.clear()
    with pytest.raises(UserError) as error:
        run(preset, tmp_path)
    assert str(error.value).startswith(f"{cell} does not match SHA256SUMS beside it: ")
    assert str(error.value).endswith(f"; to have this cell measured again, delete {cell}")
    assert (played, cell.read_bytes()) == ([], damaged)
    cell.unlink()
    cell.symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(UserError, match="is a symbolic link"):
        run(preset, tmp_path)
    cell.unlink()
    run(preset, tmp_path)
    assert played == ["test.scratch.0", "test.random.0"]
    assert (cell.read_bytes(), (tmp_path / "episodes.csv").read_bytes()) == (good, whole)


def test_nothing_is_measured_into_a_link(tmp_path: Path, played: list[str]) -> None:
    preset = small(splits=("test",), arms=("random",), seeds=1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="out is a symbolic link"):
        run(preset, tmp_path / "out")
    run(preset, tmp_path / "real")
    shutil.rmtree(tmp_path / "real" / "cells")
    (tmp_path / "real" / "cells").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="cells is a symbolic link"):
        run(preset, tmp_path / "real")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert played == ["test.random.0"]


def test_a_folder_in_which_the_first_write_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    preset = small(splits=("test",), arms=("random",), seeds=1)
    run(preset, tmp_path / "whole")
    cut = tmp_path / "cut"
    cut.mkdir()
    line = next(line for line in (tmp_path / "whole" / "SHA256SUMS").read_text().splitlines() if "protocol" in line)
    (cut / "SHA256SUMS").write_text(f"{line}\n")
    (cut / ".protocol.json.unfinished").write_text("{")
    run(preset, cut)
    names = [
        sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))
        for folder in (cut, tmp_path / "whole")
    ]
    assert names[0] == names[1]
    assert (cut / "SHA256SUMS").read_text().count("\n") == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": 4}, r"tasks: '3' there, '4' now"),
        ({"episodes": 11}, r"episodes: '10' there, '11' now"),
        ({"task_seed": 1}, r"task_seed: '0' there, '1' now"),
        ({"arms": ("probe", "scratch")}, r"arms: "),
    ],
)
def test_a_folder_belongs_to_one_protocol(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    alike = {"splits": ("test",), "seeds": 1, "arms": ("probe", "scratch", "random")}
    run(small(**alike), tmp_path / "out")
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    with pytest.raises(UserError, match=f"holds results with other settings \\({message}"):
        run(small(**{**alike, **change}), tmp_path / "out")
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == before


def test_one_process_at_a_time_measures_into_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked(out, "busy"), pytest.raises(UserError, match="another process writes results to"):
        run(small(), out)
    assert not any(out.iterdir())
    run(small(), out)
    assert not (out / LOCK).exists()


def test_other_things_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is neither an empty folder nor a benchmark"):
        run(small(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(UserError, match="is neither an empty folder nor a benchmark"):
        run(small(), tmp_path / "notes.txt")


def test_a_missing_training_run_is_named_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        run(small(arms=("probe", "maml", "random")), tmp_path / "out")
    assert str(error.value) == (
        "no trained 'maml' for 'probe': train one with `quickstudy train maml probe` and give --runs runs, or name"
        " other --arms"
    )
    assert not (tmp_path / "out").exists()


def test_runs_of_ones_own_come_before_the_shipped_ones(tmp_path: Path, shipped: Path) -> None:
    shutil.copytree(shipped / "checkpoints" / "probe" / "probe", tmp_path / "runs" / "mine")
    preset = small(arms=("probe", "random"))
    (ours, *_), (theirs, *_) = grid_of(preset, tmp_path / "runs").cells, grid_of(preset).cells
    assert (ours.reference, theirs.reference) == (str(tmp_path / "runs" / "mine"), "probe/probe")
    with pytest.raises(UserError, match="no run directory in"):
        grid_of(preset, tmp_path / "nowhere")


def test_a_preset_narrowed_says_how_to_ask_for_it() -> None:
    narrow = find_preset("demo").narrowed(["point"], ["maml", "random"])
    assert (narrow.families, narrow.arms, narrow.film) == (("point",), ("maml", "random"), ())
    assert narrow.long_arms == ()
    assert narrow.command == "demo --families point --arms maml random"
    assert find_preset("demo").narrowed(None, None).command == "demo"
    assert find_preset("demo").narrowed(None, ["ppo", "random"]).film == ()
    assert find_preset("demo").narrowed(["point"], None).film == ("rl2", "ppo")
    with pytest.raises(UserError, match="no family is called 'pont': did you mean 'point'"):
        find_preset("demo").narrowed(["pont"], None)
    with pytest.raises(UserError, match="no arm is called 'sac'"):
        find_preset("demo").narrowed(None, ["sac"])


def test_what_is_planned_is_said_before_it_begins(tmp_path: Path) -> None:
    first, *_ = run(small(), tmp_path / "out").splitlines()
    cells = grid_of(small()).cells
    assert first.startswith(f"to measure: {len(cells)} of {len(cells)} cells, ")
    assert first.endswith(" on two cores with nothing else to do")
    cells[0].path(tmp_path / "out").unlink()
    again, *_ = run(small(), tmp_path / "out").splitlines()
    assert again.startswith(f"to measure: 1 of {len(cells)} cells, ")
    steps = [int(line.split()[6].replace(",", "")) for line in (first, again)]
    assert 0 < steps[1] < steps[0]
    assert " environment steps: about " not in run(small(), tmp_path / "out")


def test_evaluate_has_a_scale_where_an_oracle_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # what is really shipped
    console = silent()
    summary = evaluate("rl2/terrain-planar", "test", 4, 1, tmp_path / "out", threads=1, console=console)
    (result,) = summary.results
    assert result.normalised
    scores = {agent.agent: agent.final.score for agent in result.agents}
    assert scores["random"] == pytest.approx(0.0, abs=1e-5)
    assert scores["ppo-oracle"] == pytest.approx(1.0, abs=1e-5)
    assert set(scores) == {"rl2", "random", "ppo-oracle"}
    # The benchmark measured the same oracle on the same tasks from the same initial states.
    there = read_episodes(ROOT / "results" / "benchmark" / "episodes.csv.gz")
    key = ("terrain-planar", "test", "ppo-oracle", 0)
    rows = [row for row in there if (row.family, row.split, row.agent, row.seed) == key]
    by_task = [np.mean([row.episode_return for row in rows if row.task == task]) for task in range(4)]
    oracle = next(agent for agent in result.agents if agent.agent == "ppo-oracle")
    assert oracle.final.episode_return == pytest.approx(interquartile_mean(np.array([by_task]))[()], rel=0.05)
    assert isinstance(console.file, StringIO)
    assert "scores are returns" not in console.file.getvalue()


def test_evaluate_one_run(tmp_path: Path, shipped: Path) -> None:
    reference = shipped / "checkpoints" / "probe" / "probe"
    console = silent()
    summary = evaluate(reference, "ood", 4, 6, tmp_path / "out", threads=1, console=console)
    assert isinstance(console.file, StringIO)
    assert "scores are returns: no oracle of probe is shipped" in console.file.getvalue()
    (result,) = summary.results
    assert (result.family, result.split, result.normalised) == ("probe", "ood", False)
    (agent,) = result.agents
    assert (agent.agent, agent.tasks, agent.final.episode) == ("probe", 4, 6)
    assert {row.seed for row in read_episodes(tmp_path / "out" / "episodes.csv")} == {7}
    assert len(read_tasks(tmp_path / "out" / "tasks.json")["probe"]["ood"]) == 4
    assert str(tmp_path) not in (tmp_path / "out" / "protocol.json").read_text()
    with pytest.raises(UserError, match="episodes: '6' there, '8' now"):
        evaluate(reference, "ood", 4, 8, tmp_path / "out", threads=1, console=silent())


def test_presets_say_what_is_wrong_with_them() -> None:
    with pytest.raises(UserError, match="no preset is called 'dmo': did you mean 'demo'"):
        find_preset("dmo")
    with pytest.raises(UserError, match="no arm is called 'sac'"):
        Preset("x", families=("probe",), arms=("sac",))
    with pytest.raises(UserError, match="tasks must be 1 or more, got 0"):
        Preset("x", families=("probe",), tasks=0)
    with pytest.raises(UserError, match="a film can only show arms of the preset"):
        Preset("x", families=("probe",), arms=("maml",), film=("rl2",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": 1}, "long arms cannot have more than the others: 3 tasks, the preset has 1"),
        (
            {"long": LongBudget(tasks=1, seeds=3)},
            "long arms cannot have more than the others: 3 seeds, the preset has 2",
        ),
        ({"splits": ("ood",)}, "long arms can only be measured on splits of the preset: test, the preset has ood"),
    ],
)
def test_long_arms_stay_within_the_preset(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(**change)
    small(**change, arms=("probe",))
    with pytest.raises(UserError, match="env_steps of a long budget must be 1 or more, got 0"):
        LongBudget(env_steps=0)


def test_full_is_what_the_goals_are_about() -> None:
    full = find_preset("full")
    assert set(full.families) >= {"grasp", "terrain"}
    assert (full.splits, full.tasks, full.episodes, full.seeds) == (("test", "ood"), 40, 10, 3)
    assert set(full.arms) == set(ARMS) - {"probe", "scratch", "scratch-long"}
    assert full.long == LongBudget(env_steps=1_000_000, tasks=8, seeds=1, splits=("test",))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_families_and_arms_that_exist(name: str) -> None:
    preset = find_preset(name)
    assert set(preset.families) <= set(FAMILIES)
    assert set(preset.arms) <= set(ARMS)
    assert {ARMS[arm].agent for arm in preset.arms} <= set(AGENTS)


def test_arms_that_do_not_learn_are_measured_once() -> None:
    grid = grid_of(small(splits=("test",), seeds=1))
    budgets = {cell.name: (cell.budget.episodes, cell.budget.max_env_steps) for cell in grid.cells}
    assert budgets == {"probe": (10, 0), "scratch": (10, 0), "random": (0, 0), "scratch-long": (10, 200)}
