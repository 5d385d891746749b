"""Headroom: arithmetic by hand, and the whole command on the probe family."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from made_up import write_evaluation
from rich.console import Console

import quickstudy
from envs.errors import UserError
from evaluation.curves import Curves
from evaluation.headroom import CRITERIA, Criteria, Figures, Plan, figures_of, measure_headroom, split_headroom
from evaluation.results import Results
from evaluation.summary import Interval, read_protocol
from evaluation.table import read_episodes
from training.config import recipe_config
from training.files import read_table, write_table
from training.train import train


def curves(returns: object, success: object = 0.0) -> Curves:
    """One probe of an arm that does not adapt; returns and success are [seeds, tasks] or one number for [2, 4]."""
    table = np.broadcast_to(np.asarray(returns, dtype=float), (2, 4))[None]
    solved = np.broadcast_to(np.asarray(success, dtype=float), (2, 4))[None]
    return Curves(np.zeros(1, dtype=int), (0, 1, 2, 3), np.zeros_like(table), table, solved, adapts=False)


def exactly(value: float) -> Interval:
    return Interval(value, value, value)


def test_the_gap_as_a_share_of_the_oracles_lead_over_random() -> None:
    figures = figures_of(curves(2.0), curves(6.0, 0.25), curves(12.0, 1.0))
    assert figures == Figures(
        random_return=exactly(2.0),
        blind_return=exactly(6.0),
        blind_success=exactly(0.25),
        oracle_return=exactly(12.0),
        oracle_success=exactly(1.0),
        gap_return=exactly(6.0),
        gap_success=exactly(0.75),
        headroom=exactly(0.6),  # (12 - 6) / (12 - 2)
        headroom_mean=exactly(0.6),
    )


def test_returns_are_interquartile_means_and_success_is_a_mean() -> None:
    blind = curves([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 100.0]], [[0, 0, 0, 0], [0, 0, 0, 1]])
    figures = figures_of(curves(0.0), blind, curves(10.0, 1.0))
    assert figures.blind_return.value == 3.5  # the mean of 2, 3, 4, 5
    assert figures.blind_success.value == 0.125
    assert figures.headroom.value == 0.65
    assert figures.headroom_mean.value == pytest.approx(1.0 - 121 / 80)  # a blind policy that is superb on one task


def test_seeds_that_differ_make_the_interval_wide() -> None:
    lucky = curves([[10.0] * 4, [0.0] * 4])  # one training run is as good as the oracle, one as bad as random
    found = figures_of(curves(0.0), lucky, curves(10.0, 1.0)).headroom
    # Two runs have one degree of freedom: t is 12.7, and the standard error of 0 and 1 is a half.
    assert (found.value, found.low) == (0.5, pytest.approx(0.5 - 12.706 / 2, rel=0.1))
    assert found.high - 0.5 == pytest.approx(0.5 - found.low)


def test_tasks_are_resampled_together() -> None:
    hard = np.array([1.0, 3.0, 5.0, 90.0])  # very different tasks, and the same gap on each
    figures = figures_of(curves(0.0), curves(hard), curves(hard + 2.0))
    assert figures.gap_return == exactly(2.0)
    assert figures.blind_return.high - figures.blind_return.low > 2.0


@pytest.mark.parametrize("oracle", [3.0, 1.0])
def test_an_oracle_no_better_than_random_leaves_nothing_to_win(oracle: float) -> None:
    figures = figures_of(curves(3.0), curves(0.0), curves(oracle))
    assert figures.headroom == exactly(0.0)
    assert [line.partition(":")[0] for line in Criteria().verdict(figures)] == [
        "the oracle is not good enough yet",
        "redesign this family",
    ]


@pytest.mark.parametrize(
    ("family", "blind", "success", "says"),
    [
        ("terrain", 7.5, 0.9, "worth adapting to: adaptation can win 0.25 of the oracle's score"),
        ("terrain", 7.6, 0.9, "redesign this family: adaptation can win 0.24 of the oracle's score, 0.25 is asked"),
        ("terrain", 0.0, 0.89, "the oracle is not good enough yet: it succeeds in 0.89 of episodes, 0.90 is asked"),
        ("grasp", 0.0, 0.94, "the oracle is not good enough yet: it succeeds in 0.94 of episodes, 0.95 is asked"),
        ("grasp", 0.0, 0.95, "worth adapting to: adaptation can win 1.00 of the oracle's score"),
    ],
)
def test_the_verdict(family: str, blind: float, success: float, says: str) -> None:
    figures = figures_of(curves(0.0), curves(blind), curves(10.0, success))
    assert CRITERIA.get(family, Criteria()).verdict(figures) == (says,)


def test_success_by_kind_of_task_adds_up(tmp_path: Path) -> None:
    write_evaluation(tmp_path, {"terrain": ["test"]}, ("ppo-robust", "ppo-oracle", "random"))
    results = Results.read(tmp_path)
    split = split_headroom(results, results.summary.results[0], Criteria())
    assert (split.split, split.seeds, split.tasks) == ("test", 2, 12)
    parameters = {kind.parameter for kind in split.kinds}
    assert {"surface", "layout"} <= parameters
    for parameter in parameters:
        kinds = [kind for kind in split.kinds if kind.parameter == parameter]
        assert sum(kind.tasks for kind in kinds) == 12
        for name in ("oracle", "blind"):
            mean = sum(getattr(kind, name) * kind.tasks for kind in kinds) / 12
            assert mean == pytest.approx(getattr(split.figures, f"{name}_success").value, abs=1e-5)


# -- the command -------------------------------------------------------------------------------------------------------

STEPS = 4000  # one iteration of PPO: 40 tasks x 10 episodes x 10 steps


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def test_the_command_trains_measures_and_keeps(
    probe_family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = f"headroom {probe_family} --seeds 2 --steps {STEPS} --tasks 3 --threads 1"
    assert quickstudy.main(line.split()) == 0
    text = capsys.readouterr().out
    assert "probe 1, ood: 3 tasks; 2 training runs of each policy, 4,000 steps each" in text
    assert "probe, test: the oracle is not good enough yet" in text  # after one update

    out, runs = tmp_path / "out" / "headroom-probe-1", tmp_path / "runs" / "headroom" / "probe-1"
    assert sorted(run.name for run in runs.iterdir()) == [
        f"ppo-{policy}-probe-{seed}" for policy in ("oracle", "robust") for seed in (0, 1)
    ]
    found = json.loads((out / "headroom.json").read_text(encoding="utf-8"))
    assert (found["family"], found["version"], found["steps"]) == ("probe", "1", STEPS)
    assert found["env_steps"] == {"ppo-oracle": [STEPS, STEPS], "ppo-robust": [STEPS, STEPS]}
    assert [split["split"] for split in found["splits"]] == ["test", "ood"]
    rows = read_episodes(out / "episodes.csv")
    assert {(row.agent, row.seed) for row in rows} == {
        (arm, seed) for arm in ("ppo-oracle", "ppo-robust", "random") for seed in (0, 1)
    }
    solved = [row.success for row in rows if (row.agent, row.split) == ("ppo-oracle", "test")]
    assert found["splits"][0]["figures"]["oracle_success"]["value"] == pytest.approx(np.mean(solved), abs=1e-6)
    assert read_protocol(out).command.startswith("quickstudy headroom probe --seeds 2 --steps 4000 --tasks 3 ")

    before = {file: file.stat().st_mtime_ns for folder in (runs, out / "cells") for file in folder.rglob("*.*")}
    assert quickstudy.main(line.replace(f" --steps {STEPS}", "").split()) == 0  # the budget is that of the runs
    assert before == {file: file.stat().st_mtime_ns for file in before}
    assert json.loads((out / "headroom.json").read_text(encoding="utf-8")) == found


def test_runs_are_found_whatever_their_folders_are_called_and_interrupted_ones_go_on(
    probe_family: str, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    train(recipe_config("ppo-oracle", "probe", steps=2 * STEPS, threads=1), runs / "told", console())
    cut = train(recipe_config("ppo-robust", "probe", steps=STEPS, threads=1), runs / "blind", console())
    data = read_table(cut.config_path)
    data["train"]["steps"] = 2 * STEPS  # as if it had been stopped half-way
    write_table(cut.config_path, data)
    to = console()
    plan = Plan("probe", seeds=1, tasks=2, splits=("test",))
    headroom = measure_headroom(plan, runs, tmp_path / "out", threads=1, console=to)
    assert headroom.env_steps == {"ppo-oracle": [2 * STEPS], "ppo-robust": [2 * STEPS]}
    assert f"{runs / 'blind'}: its budget is not spent, so it goes on" in said(to)
    assert sorted(run.name for run in runs.iterdir()) == ["blind", "told"]


def test_what_cannot_be_compared_is_refused(probe_family: str, tmp_path: Path) -> None:
    runs, plan = tmp_path / "runs", Plan("probe", seeds=1, tasks=2, splits=("test",))
    told = train(recipe_config("ppo-oracle", "probe", steps=1, threads=1), runs / "told", console())
    blind = train(recipe_config("ppo-robust", "probe", steps=2, threads=1), runs / "blind", console())

    def refusal(plan: Plan = plan, out: str = "out") -> str:
        with pytest.raises(UserError) as refused:
            measure_headroom(plan, runs, tmp_path / out, threads=1, console=console())
        assert not (tmp_path / "out").exists()
        return str(refused.value)

    assert refusal() == (
        f"all runs need the same budget: that of {told.path} is 1 steps, another has 2;"
        f" `quickstudy resume {told.path} --steps 2` or another --runs would do"
    )
    assert refusal(Plan("probe", seeds=1, steps=1)) == (
        f"all runs need the same budget: that of {blind.path} is 2 steps, --steps asks for 1;"
        " --steps 2 or another --runs would do"
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert "neither an empty folder nor a measurement: use another --out" in refusal(out="mine")
    blind.path.rename(runs / "ppo-robust-probe-1")
    assert "holds another run than its name says" in refusal(Plan("probe", seeds=2))
    train(recipe_config("ppo-oracle", "probe", steps=1, threads=1), runs / "twin", console())
    assert "are both ppo-oracle on probe with seed 0: keep one" in refusal()
