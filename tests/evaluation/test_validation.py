"""`quickstudy validate`: its checks pass, each fails where what it examines is broken, and the command tells both."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

import agents.meta_gradient
import quickstudy
from agents import advantages
from agents.maml import MamlConfig
from agents.rl2 import RL2, RL2Memory
from envs.errors import UserError
from evaluation.validation import (
    agent_in_expectation,
    arithmetic,
    exact_value,
    expected_gradient,
    learning,
    meta_gradient,
    recurrence,
    trust,
    validate,
)
from evaluation.validation.check import Check
from evaluation.validation.runs import RUNS, Run, trained
from training.files import read_table, write_table


def failures(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


@pytest.mark.parametrize("group", validate.FAST, ids=lambda group: group.name)
def test_every_fast_check_passes(group: validate.Group) -> None:
    checks = group.checks()
    assert checks
    assert failures(checks) == []
    assert len({check.name for check in checks}) == len(checks)


@pytest.mark.parametrize(
    ("relation", "expected", "measured", "tolerance", "passed"),
    [
        ("=", 2.0, 2.1, 0.2, True),
        ("=", 2.0, 2.3, 0.2, False),
        ("=", 0.0, 1.0, 0.0, False),
        ("<=", 1.0, 1.0, 0.0, True),
        ("<=", 1.0, 1.1, 0.0, False),
        (">=", -3.3, -3.2, 0.0, True),
        (">=", -3.3, -3.4, 0.0, False),
        ("=", 0.0, math.nan, 1.0, False),
        ("<=", 1.0, math.nan, 1.0, False),
        (">=", 1.0, math.nan, 1.0, False),
        (">", 0.0, 1e-9, 0.0, True),
        (">", 0.0, 0.0, 0.0, False),
        (">", 1.0, math.nan, 1.0, False),
    ],
)
def test_a_verdict_follows_from_its_figures(
    relation: Any, expected: float, measured: float, tolerance: float, passed: bool
) -> None:
    assert Check("name", "meaning", relation, expected, measured, tolerance).passed is passed


# -- what is broken is noticed -----------------------------------------------------------------------------------------


def test_a_forgotten_curvature_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        agents.meta_gradient, "hessian_product", lambda layout, at, direction: torch.zeros_like(direction)
    )
    assert not meta_gradient.against_differences("tanh", 1).passed
    assert meta_gradient.first_order("tanh").passed
    assert failures(meta_gradient.against_a_loop("relu")) == ["batched meta-gradient: relu"]
    assert failures(agent_in_expectation.checks()) == ["the agent's meta-gradient in expectation"]


def test_a_curvature_that_is_slightly_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = agents.meta_gradient.hessian_product
    monkeypatch.setattr(agents.meta_gradient, "hessian_product", lambda *given: (1 + 1e-4) * right(*given))
    assert not meta_gradient.against_differences("relu", 2).passed
    assert not trust.fisher("tanh", first_order=False).passed
    assert trust.fisher("tanh", first_order=True).passed


def test_a_biased_estimator_is_told_from_an_unbiased_one(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = {**expected_gradient.SURROGATES, "DiCE": expected_gradient.ratio}
    monkeypatch.setattr(expected_gradient, "SURROGATES", swapped)
    assert "curvature: DiCE" in failures(expected_gradient.checks())


def test_a_search_that_leaves_the_weights_moved_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = trust.trust_region_step

    def careless(start: Tensor, *given: Any, **settings: Any) -> tuple[Tensor, dict[str, float]]:
        moved, metrics = right(start, *given, **settings)
        return moved + 1e-16 * moved.abs().max() * (moved == start).double(), metrics  # the last bit of some weights

    monkeypatch.setattr(trust, "trust_region_step", careless)
    assert len(failures(trust.rejected_search())) == 2


def test_a_step_beyond_the_bound_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "MAX_KL", 0.002)
    monkeypatch.setattr(trust, "MamlConfig", lambda **given: MamlConfig(**{**given, "max_kl": 0.01}))
    assert failures(trust.kl_bound(updates=2)) == ["TRPO: the largest KL of a step"]


def test_an_advantage_that_crosses_an_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(reward: Tensor, value: Tensor, last: Tensor, terminated: Tensor, **settings: float) -> Tensor:
        return advantages.generalized_advantages(reward, value, last, torch.zeros_like(terminated), **settings)

    monkeypatch.setattr(arithmetic, "generalized_advantages", endless)
    assert failures(arithmetic.checks()) == ["GAE by hand, termination in the middle"]


def test_a_memory_that_is_lost_between_episodes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: RL2, memory: RL2Memory, trajectories: Any) -> RL2Memory:
        return self.fresh(recurrence.K, recurrence.E, memory.generator)

    monkeypatch.setattr(RL2, "adapt", forget)
    agent = recurrence.untrained()
    first, second = recurrence.play(agent, 0), recurrence.play(agent, 1)
    assert failures(recurrence.memory_is_kept(agent, first, second)) == ["RL²: memory lasts for the trial"]
    assert failures(recurrence.feedback_is_read(agent, first)) == ["RL²: an episode's last reward and done are kept"]
    assert failures(recurrence.replay(agent, first)) == ["RL²: replayed log-probabilities", "RL²: replayed states"]


def test_a_done_that_nobody_sees_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = RL2.observe

    def blind(self: RL2, memory: RL2Memory, transition: Any) -> RL2Memory:
        return dataclasses.replace(right(self, memory, transition), done=torch.zeros_like(memory.done))

    monkeypatch.setattr(RL2, "observe", blind)
    agent = recurrence.untrained()
    checks = recurrence.feedback_is_read(agent, recurrence.play(agent, 0))
    assert failures(checks) == ["RL²: an episode's last reward and done are kept", "RL²: the network reads them"]


def test_memory_that_is_not_used_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence, "mixed", lambda memory, episodes: memory)
    check = recurrence.shuffled_history(tasks=4)
    assert check.measured == 0.0
    assert not check.passed
    monkeypatch.setattr(exact_value, "optimal_value", lambda arms, pulls: 0.6 * pulls)
    assert len(failures(exact_value.checks())) == 3


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_groups(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes `quickstudy validate` run two made-up groups, the second of which passes or fails."""

    def install(passes: bool) -> None:
        def second() -> list[Check]:
            return [Check("one", "a", "=", 1.0, 1.0), Check("other", "b", "<=", 0.1, 0.05 if passes else 0.2)]

        groups = (validate.Group("quick", exact_value.checks, 1), validate.Group("made up", second, 1))
        monkeypatch.setattr(validate.validate, "__kwdefaults__", {**validate.validate.__kwdefaults__, "groups": groups})

    return install


def test_the_command_prints_and_writes_what_it_found(
    two_groups: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_groups(passes=True)
    assert quickstudy.main(["validate", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "5 of 5 checks passed" in said
    assert "FAIL" not in said
    found = json.loads((tmp_path / "out" / "validate.json").read_text(encoding="utf-8"))
    assert found["passed"] is True
    assert found["command"] == "quickstudy validate fast"
    assert found["checks"][-1] == {
        **{"group": "made up", "name": "other", "meaning": "b", "relation": "<=", "expected": 0.1},
        **{"measured": 0.05, "tolerance": 0.0, "detail": "", "passed": True},
    }
    assert set(found["seconds"]) == {"quick", "made up"}
    assert {"torch", "mujoco", "quickstudy"} <= set(found["versions"])

    two_groups(passes=False)  # an earlier result is replaced
    assert quickstudy.main(["validate", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "FAIL" in said
    assert "\nfailed: other\n" in said
    assert json.loads((tmp_path / "out" / "validate.json").read_text(encoding="utf-8"))["passed"] is False


def test_nothing_of_anyone_elses_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="use another --out"):
        validate.validate("fast", tmp_path, tmp_path / "runs", groups=())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# -- trained agents ----------------------------------------------------------------------------------------------------

TINY = (
    Run(
        "rl2-bandit",
        "rl2",
        "bandit",
        400,
        settings={"hidden_size": 4, "episodes_per_trial": 1, "meta_batch_size": 10, "minibatches": 1},
        train={"threads": 1},
    ),
    Run(
        "maml-point",
        "maml",
        "point",
        1600,
        settings={"hidden_sizes": [4], "meta_batch_size": 2, "episodes_per_step": 2},
        train={"threads": 1},
    ),
)
SCALE = learning.Scale(sequences=300, shuffled_sequences=100, goals=3, episodes=2)


def full(folder: Path, console: Console) -> validate.Outcome:
    return validate.validate("full", folder, folder / "runs", console=console, trainings=TINY, groups=(), scale=SCALE)


def test_full_trains_what_is_missing_measures_it_and_keeps_it(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    outcome = full(tmp_path, console)
    # Agents that have hardly been trained: the optimum is far, and so are the published returns.
    assert "RL² on bandit: share of the optimum" in outcome.failed
    assert "RL² on bandit: not above the optimum" not in outcome.failed
    assert [f"MAML on point: after {times}" for times in ("1 update", "2 updates", "3 updates")] == outcome.failed[-3:]
    share = outcome.checks["rl2 on bandit"][0].measured
    assert 0.6 < share < 0.9  # any blind policy earns 5 of 6.66

    with (tmp_path / "returns.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == SCALE.goals * (SCALE.updates + 1)
    last = [float(row["return"]) for row in rows if row["update"] == "3"]
    assert outcome.checks["maml on point"][-1].measured == pytest.approx(sum(last) / len(last), abs=1e-5)
    with (tmp_path / "bandit.csv").open(newline="") as file:
        counts = [row for row in csv.DictReader(file) if row["rewards"] == "own"]
    total = sum(float(row["return"]) * int(row["sequences"]) for row in counts)
    assert total / SCALE.sequences == pytest.approx(share * exact_value.optimal_value(5, 10))

    found = json.loads((tmp_path / "validate.json").read_text(encoding="utf-8"))
    assert set(found["runs"]) == {"rl2-bandit", "maml-point"}
    assert all(run["as_in_table"] for run in found["runs"].values())
    assert found["runs"]["maml-point"]["config"]["agent_config"]["hidden_sizes"] == [4]

    progress = {path: path.read_bytes() for path in (tmp_path / "runs").glob("*/progress.jsonl")}
    again = full(tmp_path, Console(file=io.StringIO(), width=200))
    assert {name: [c.measured for c in checks] for name, checks in again.checks.items()} == {
        name: [c.measured for c in checks] for name, checks in outcome.checks.items()
    }
    assert progress == {path: path.read_bytes() for path in progress}


def test_a_run_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    run = TINY[0]
    short = dataclasses.replace(run, steps=200)
    assert trained(short, tmp_path, console).env_steps == 200
    config = tmp_path / run.name / "config.json"
    data = read_table(config)
    data["train"]["steps"] = run.steps  # the budget was not spent
    write_table(config, data)
    assert trained(run, tmp_path, console).env_steps == 400
    with pytest.raises(UserError, match="holds rl2 on bandit: maml on point belongs there"):
        trained(dataclasses.replace(TINY[1], name=run.name), tmp_path, console)


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    loaded = trained(TINY[1], tmp_path, Console(file=io.StringIO()))
    with pytest.raises(UserError, match="takes 2 episodes for an update, the published protocol 20"):
        learning.adaptation_returns(loaded, learning.Scale())


def test_every_run_of_full_has_a_config_and_something_to_be_held_against() -> None:
    for run in RUNS:
        config = run.config()
        assert (config.agent, config.family) == (run.agent, run.family)
        assert run.agent == "rl2" or (
            run.family in learning.PUBLISHED and config.agent_config.episodes_per_step == learning.Scale().episodes
        )
    assert {run.family for run in RUNS} == {"bandit", "bandit-10x10", *learning.PUBLISHED}
