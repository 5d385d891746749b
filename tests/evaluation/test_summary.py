"""The summary of a table typed by hand, with the arithmetic beside it."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from envs.errors import UserError
from evaluation.summarise import summarise, summarise_directory
from evaluation.summary import (
    SUMMARY_FILE,
    AgentSummary,
    Protocol,
    StepsTo,
    Summary,
    read_protocol,
    read_summary,
    write_protocol,
)
from evaluation.table import EPISODES_FILE, Episode, write_episodes

PROTOCOL = Protocol(
    name="hand",
    command="typed",
    families={"probe": "1"},
    splits=("test",),
    arms=("maml", "ppo", "ppo-oracle", "random"),
    episodes=4,
    probe_episodes=1,
    explore_probes=False,
    tasks=4,
    task_seed=0,
    seeds=(0,),
    horizons={"probe": 10},
    checkpoints={},
    versions={},
)


def probes(
    agent: str, returns: dict[int, list[float]], success: list[int] | None = None, **other: object
) -> list[Episode]:
    """One row for each task and probe; ten steps an episode. returns: {episodes before: one return for each task}."""
    rows = []
    for episode, results in returns.items():
        for task, result in enumerate(results):
            solved = bool(success[task]) if success else False
            row = Episode("probe", "1", "test", agent, 0, task, episode, "probe", 10 * episode, result, solved)
            rows.append(dataclasses.replace(row, **other))  # type: ignore[arg-type]
    return rows


def adapts(rows: list[Episode]) -> list[Episode]:
    return [*rows, *(dataclasses.replace(row, role="adapt") for row in rows if row.episode == 0)]


RANDOM = probes("random", {0: [-50.0, 0.0, 0.0, 7.0]})  # interquartile mean 0
ORACLE = probes("ppo-oracle", {0: [8.0, 10.0, 10.0, 100.0]}, success=[1, 1, 1, 0])  # 10
MAML = adapts(probes("maml", {0: [0.0, 2.0, 2.0, 4.0], 2: [3.0, 4.0, 6.0, 9.0], 4: [5.0, 9.0, 9.0, 9.0]}))
PPO = adapts(probes("ppo", {0: [1.0] * 4, 4: [2.0] * 4, 8: [6.0] * 4}))
TABLE = [*RANDOM, *ORACLE, *MAML, *PPO]


def agents_of(summary: Summary) -> dict[str, AgentSummary]:
    (result,) = summary.results
    return {agent.agent: agent for agent in result.agents}


def test_the_scale_runs_from_random_to_oracle() -> None:
    (result,) = summarise(TABLE, PROTOCOL).results
    assert result.normalised
    assert (result.random and result.random.episode_return, result.oracle and result.oracle.episode_return) == (
        0.0,
        10.0,
    )
    assert result.oracle
    assert result.oracle.success == 0.75
    assert (result.random and result.random.mean_return, result.oracle.mean_return) == (-10.75, 32.0)
    assert result.budget_steps == 40
    assert [agent.agent for agent in result.agents] == ["maml", "ppo", "ppo-oracle", "random"]
    agents = agents_of(summarise(TABLE, PROTOCOL))
    assert [agents[name].final.score for name in ("random", "ppo-oracle")] == [0.0, 1.0]
    assert [agent.adapts for agent in result.agents] == [True, True, False, False]


def test_the_curve_of_an_agent() -> None:
    maml = agents_of(summarise(TABLE, PROTOCOL))["maml"]
    assert (maml.seeds, maml.tasks) == (1, 4)
    assert [(point.episode, point.env_steps) for point in maml.curve] == [(0, 0.0), (2, 20.0), (4, 40.0)]
    # Without the best and the worst of four: (2 + 2) / 2, (4 + 6) / 2, (9 + 9) / 2, over the oracle's 10.
    assert [point.episode_return for point in maml.curve] == [2.0, 5.0, 9.0]
    assert [point.score for point in maml.curve] == [0.2, 0.5, 0.9]
    assert all(point.low <= point.score <= point.high for point in maml.curve)
    assert maml.curve[0].low < 0.2 < maml.curve[0].high
    assert maml.final == maml.curve[-1]


def test_means_stand_beside_interquartile_means() -> None:
    """A family that falls in two: every fourth task is solved, and the interquartile mean sees none of them."""
    halves = adapts(probes("maml", {0: [0.0] * 8, 4: [0.0] * 6 + [10.0] * 2}, success=[0] * 6 + [1] * 2))
    ends = [*probes("random", {0: [0.0] * 8}), *probes("ppo-oracle", {0: [8.0] * 2 + [10.0] * 6}, success=[1] * 8)]
    (result,) = summarise([*halves, *ends], PROTOCOL).results
    maml = result.agents[0]
    assert (maml.final.score, maml.final.episode_return) == (0.0, 0.0)
    assert maml.final.mean_return == 2.5
    assert maml.final.mean_score == pytest.approx(2.5 / 9.5, abs=1e-6)  # on the scale of means
    assert maml.final.success == 0.25
    assert maml.gain_mean.value == pytest.approx(2.5 / 9.5, abs=1e-6)
    assert result.oracle
    assert (result.oracle.episode_return, result.oracle.mean_return) == (10.0, 9.5)
    assert result.agents[1].final.mean_score == 1.0


def test_what_is_earned_while_adapting_is_told_apart_from_probes() -> None:
    """An agent that behaves in probes alone: it reaches all of the oracle there, and nothing while it adapts."""
    behaves = probes("maml", {0: [10.0] * 4, 4: [10.0] * 4}, success=[1] * 4)
    episodes = [
        row for n in range(6) for row in probes("maml", {n: [0.0, 0.0, 0.0, 8.0 * (n < 4)]}, [0] * 4, role="adapt")
    ]
    maml = agents_of(summarise([*RANDOM, *ORACLE, *behaves, *episodes], PROTOCOL))["maml"]
    assert (maml.final.score, maml.final.success) == (1.0, 1.0)
    assert maml.adapting
    # Four episodes are the common budget: those after it do not count. Random's mean is -10.75, the oracle's 32.
    assert maml.adapting.episodes == 4
    assert maml.adapting.score.value == pytest.approx((2.0 + 10.75) / 42.75, abs=1e-6)
    assert maml.adapting.success.value == 0.0
    assert agents_of(summarise(TABLE, PROTOCOL))["random"].adapting is None
    hole = [row for row in episodes if (row.task, row.episode) != (1, 2)]
    with pytest.raises(
        UserError, match="no adaptation episode of maml on probe/test, seed 0, task 1, after 2 episodes"
    ):
        summarise([*behaves, *hole], PROTOCOL)


def test_steps_to_the_oracle_are_told_of_both_sides_on_each_task() -> None:
    ppo = adapts(probes("ppo", {0: [0.0] * 4, 20: [0.0, 9.0, 7.0, 9.0], 40: [9.0, 9.0, 7.0, 9.0]}))
    race = agents_of(summarise([*RANDOM, *ORACLE, *MAML, *ppo], PROTOCOL))["maml"].race
    assert race
    assert (race.percent, race.opponent, race.runs, race.ppo_runs, race.ppo_budget) == (80, "ppo", 1, 1, 400.0)
    # MAML is at 8 of the oracle's 10 after: never, 40, 40, 20 steps. PPO after 400, 200, never, 200.
    assert [(row.env_steps, row.ppo_steps) for row in race.tasks] == [
        (None, 400.0), (40.0, 200.0), (40.0, None), (20.0, 200.0)
    ]  # fmt: skip
    assert [row.share_never for row in race.tasks] == [1.0, 0.0, 0.0, 0.0]
    # PPO's steps over MAML's: 0 where it never gets there, 5, at least 10, 10: between 5 and 10 lies the median.
    assert (race.times, race.lower_bound) == (7.5, False)
    never = adapts(probes("ppo", {0: [0.0] * 4, 40: [0.0] * 4}))
    bound = agents_of(summarise([*RANDOM, *ORACLE, *MAML, *never], PROTOCOL))["maml"].race
    assert bound
    assert (bound.times, bound.lower_bound) == (10.0, True)  # of 10, 10 and 20, on the three tasks it reaches
    # Within the common budget PPO gets nowhere, and the two are not raced.
    short = agents_of(summarise([*RANDOM, *ORACLE, *MAML, *PPO[:8], *PPO[12:]], PROTOCOL))["maml"]
    assert short.race is None


def test_several_runs_of_ppo_count_by_their_median() -> None:
    levels = {0: [0.0] * 4, 20: [0.0] * 4, 40: [9.0] * 4}
    early, late = {**levels, 20: [9.0] * 4}, {**levels, 40: [0.0] * 4}
    ppo = [row for seed, given in enumerate((levels, early, late)) for row in adapts(probes("ppo", given, seed=seed))]
    race = agents_of(summarise([*RANDOM, *ORACLE, *MAML, *ppo], PROTOCOL))["maml"].race
    assert race
    assert race.ppo_runs == 3
    assert {(row.ppo_steps, row.ppo_share_never) for row in race.tasks} == {(400.0, 0.333333)}


def test_an_agent_at_once_there_counts_as_one_episode() -> None:
    ready = adapts(probes("maml", {0: [9.0] * 4, 4: [9.0] * 4}))
    ppo = adapts(probes("ppo", {0: [0.0] * 4, 20: [9.0] * 4}))
    race = agents_of(summarise([*RANDOM, *ORACLE, *ready, *ppo], PROTOCOL))["maml"].race
    assert race
    assert [row.env_steps for row in race.tasks] == [0.0] * 4
    assert race.times == 20.0  # 200 steps over the 10 of an episode


def test_meta_training_is_paid_for_after_so_many_tasks() -> None:
    origins = {f"maml/probe/{seed}": f"runs/maml-{seed}, {1000 + seed} steps, weights 12ab" for seed in range(3)}
    protocol = dataclasses.replace(PROTOCOL, checkpoints={**origins, "maml-2/probe/0": "runs/x, 9 steps, weights 0"})
    agents = agents_of(summarise(TABLE, protocol))
    assert agents["maml"].meta_steps == 1001.0
    # PPO needs 70 steps for what MAML has after 20, and more than 80 for what it has after 40: 50 and 40 saved a task.
    assert [point.tasks_to_pay for point in agents["maml"].ppo_equivalent] == [
        pytest.approx(1001 / 40), pytest.approx(1001 / 50), pytest.approx(1001 / 40)
    ]  # fmt: skip
    assert agents["ppo"].meta_steps is None
    assert {point.tasks_to_pay for point in agents["ppo"].ppo_equivalent} == {None}


def test_the_figures_of_an_agent() -> None:
    maml = agents_of(summarise(TABLE, PROTOCOL))["maml"]
    assert maml.gain.value == pytest.approx(0.7)
    assert maml.auc.value == pytest.approx((0.2 * 20 + 0.5 * 20) / 40)
    assert maml.auc.low <= maml.auc.value <= maml.auc.high
    # Half of the oracle: after 40, 40, 20, 20 steps. Four fifths: never, 40, 40, 20.
    assert maml.steps_to == {"50": StepsTo(30.0, 0.0), "80": StepsTo(40.0, 0.25), "90": StepsTo(40.0, 0.25)}
    assert maml.worst_decile == 0.5
    assert maml.improvement_over_ppo
    assert maml.improvement_over_ppo.value == 1.0


def test_steps_that_ppo_would_need() -> None:
    points = agents_of(summarise(TABLE, PROTOCOL))["maml"].ppo_equivalent
    # PPO has 1 at 0 steps, 2 at 40, 6 at 80: 2 takes 40, 5 takes 40 + 3/4 * 40, and 9 it never reaches in 80.
    assert [(point.episode, point.ppo_steps, point.censored) for point in points] == [
        (0, 40.0, False),
        (2, 70.0, False),
        (4, 80.0, True),
    ]


def test_what_ppo_learns_beyond_the_common_budget_is_shown_apart() -> None:
    ppo = agents_of(summarise(TABLE, PROTOCOL))["ppo"]
    assert [point.env_steps for point in ppo.curve] == [0.0, 40.0, 80.0]
    assert ppo.final.episode == 4
    assert ppo.gain.value == pytest.approx(0.1)
    assert ppo.auc.value == pytest.approx(0.1)
    assert ppo.improvement_over_ppo is None
    assert ppo.steps_to["50"] == StepsTo(80.0, 0.0)


def test_ppo_may_have_met_fewer_tasks() -> None:
    fewer = [row for row in PPO if row.task < 2]
    maml = agents_of(summarise([*RANDOM, *ORACLE, *MAML, *fewer], PROTOCOL))["maml"]
    # On tasks 0 and 1 MAML begins at (0 + 2) / 2 = 1, which PPO has from the start.
    assert maml.ppo_equivalent[0].ppo_steps == 0.0
    assert maml.tasks == 4


def test_several_initial_states_are_one_probe() -> None:
    again = probes("random", {0: [50.0, 0.0, 0.0, 13.0]}, success=[1, 0, 0, 0])
    agent = agents_of(summarise([*RANDOM, *again], PROTOCOL))["random"]
    assert agent.curve[0].episode_return == 0.0  # tasks: 0, 0, 0, 10
    assert agent.curve[0].success == 0.125
    assert (agent.seeds, agent.tasks, len(agent.curve)) == (1, 4, 1)


def test_without_both_ends_of_the_scale_scores_are_returns() -> None:
    (result,) = summarise([*RANDOM, *MAML], PROTOCOL).results
    assert not result.normalised
    assert result.oracle is None
    maml = result.agents[0]
    assert [point.score for point in maml.curve] == [2.0, 5.0, 9.0]
    assert maml.steps_to == {}
    assert maml.ppo_equivalent == ()
    assert maml.improvement_over_ppo is None


def test_an_oracle_that_is_no_better_than_random_is_no_scale() -> None:
    (result,) = summarise([*RANDOM, *probes("ppo-oracle", {0: [-1.0] * 4}), *MAML], PROTOCOL).results
    assert not result.normalised


def test_the_gap_between_splits() -> None:
    unseen = [dataclasses.replace(row, split="ood", episode_return=row.episode_return / 2) for row in MAML]
    ends = [dataclasses.replace(row, split="ood") for row in (*RANDOM, *ORACLE)]
    summary = summarise([*TABLE, *unseen, *ends], PROTOCOL)
    gaps = {(gap.agent, gap.seen, gap.unseen): gap.score for gap in summary.gaps}
    assert gaps == {("maml", "test", "ood"): -0.45, ("ppo-oracle", "test", "ood"): 0.0, ("random", "test", "ood"): 0.0}
    without = summarise([*MAML, *unseen], PROTOCOL)
    assert [gap.score for gap in without.gaps] == [None]


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = []
    for number in range(2):
        directory = tmp_path / str(number)
        rows = list(TABLE)
        random.Random(number).shuffle(rows)
        write_episodes(directory / EPISODES_FILE, rows)
        write_protocol(directory, PROTOCOL)
        summary = summarise_directory(directory)
        assert read_summary(directory) == summary
        texts.append((directory / SUMMARY_FILE).read_bytes())
    assert texts[0] == texts[1]


def test_a_table_with_a_hole_is_refused() -> None:
    hole = [row for row in MAML if (row.task, row.episode) != (2, 4)]
    with pytest.raises(UserError, match="no probe of maml on probe/test, seed 0, task 2, after 4 episodes"):
        summarise(hole, PROTOCOL)
    with pytest.raises(UserError, match="no probe of maml on probe/test before adaptation"):
        summarise([row for row in MAML if row.role == "adapt"], PROTOCOL)
    with pytest.raises(UserError, match="episodes of 'grasp', of which the protocol says nothing"):
        summarise([dataclasses.replace(row, family="grasp") for row in MAML], PROTOCOL)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file .*protocol\.json"):
        read_protocol(tmp_path)
    (tmp_path / "protocol.json").write_text('{"name": 3}')
    with pytest.raises(UserError, match=r"protocol\.json, 'name'"):
        read_protocol(tmp_path)
