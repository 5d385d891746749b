"""The bandit pays as it says, shows no payout, and the best value there is agrees with a brute-force search."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction

import numpy as np
import pytest

from envs.bandit import BanditFamily, BanditTask
from envs.bandit_value import optimal_value, pull_values
from envs.errors import UserError
from envs.families import make_family
from envs.simulation import TaskBatch

FAMILY = BanditFamily()


def pulls_of(arms: list[int], size: int = 5) -> np.ndarray:
    """[N, size] actions whose largest entry is the arm."""
    return np.where(np.arange(size) == np.array(arms)[:, None], 0.2, -0.3)


def test_sizes_have_families_of_their_own() -> None:
    assert (FAMILY.name, FAMILY.arms, FAMILY.horizon) == ("bandit", 5, 10)
    other = make_family("bandit-10x20")
    assert (other.name, other.action_size, other.observation_size, other.horizon) == ("bandit-10x20", 10, 11, 20)
    assert make_family("bandit-5x10").name == "bandit"
    for name in ("bandit-1x10", "bandit-5x0", "bandit-5", "bandit-05x10", "bandit-200x10"):
        with pytest.raises(UserError):
            make_family(name)


def test_each_arm_pays_with_its_probability() -> None:
    task = BanditTask((0.0, 0.2, 0.5, 0.9, 1.0))
    batch = TaskBatch(FAMILY, [task], 2000)
    batch.reset(seed=0)
    paid = np.stack([batch.step(pulls_of([arm] * 2000)).reward for arm in (0, 1, 2, 3, 4)])
    assert set(np.unique(paid)) == {0.0, 1.0}
    np.testing.assert_allclose(paid.mean(axis=1), task.probabilities, atol=0.04)  # 3.6 standard errors
    assert paid[0].max() == 0.0
    assert paid[4].min() == 1.0


def test_pulls_and_episodes_are_independent_and_repeat_from_the_seed() -> None:
    batch = TaskBatch(FAMILY, [BanditTask((0.5,) * 5)], 1000)

    def episode(seed: int) -> np.ndarray:
        batch.reset(seed)
        return np.stack([batch.step(pulls_of([2] * 1000)).reward for _ in range(10)])

    first = episode(3)
    np.testing.assert_array_equal(episode(3), first)
    correlation = np.corrcoef(np.concatenate([first, episode(4)]))
    assert np.abs(correlation[~np.eye(20, dtype=bool)]).max() < 0.15


def test_observations_tell_the_last_pull_and_the_time_and_never_the_payout() -> None:
    batch = TaskBatch(FAMILY, [BanditTask((0.0,) * 5), BanditTask((1.0,) * 5)])
    start = batch.reset(seed=0)
    np.testing.assert_array_equal(start, [[0, 0, 0, 0, 0, 1]] * 2)
    for t, arm in enumerate([3, 3, 0]):
        step = batch.step(pulls_of([arm, arm]))
        assert step.reward.tolist() == [0.0, 1.0]
        expected = np.append(np.eye(5)[arm], 1.0 - (t + 1) / 10).astype(np.float32)
        np.testing.assert_array_equal(step.observation, [expected] * 2)


def test_the_pulled_lever_is_down_and_the_others_are_up() -> None:
    batch = TaskBatch(FAMILY, [BanditTask((0.5,) * 5)])
    batch.reset(seed=0)
    for arm in (1, 4, 4, 0):
        batch.step(pulls_of([arm]))
        assert batch.sim.qpos[0].argmax() == arm
        assert (batch.sim.qpos[0] > 1e-6).sum() == 1


def test_success_is_the_best_arm_pulled_last_and_the_script_pulls_no_other() -> None:
    task = BanditTask((0.3, 0.8, 0.1, 0.8, 0.2))
    batch = TaskBatch(FAMILY, [task])
    batch.reset(seed=0)
    for arm, right in ((0, False), (1, True), (2, False), (3, True)):
        assert batch.step(pulls_of([arm])).success[0] == right
    assert FAMILY.scripted(batch.sim).argmax() == 1
    assert batch.step(FAMILY.scripted(batch.sim)).success[0]


def test_ood_arms_pay_nearly_always_or_nearly_never() -> None:
    tasks = FAMILY.sample("ood", 200, np.random.default_rng(0))
    probabilities = np.array([task.probabilities for task in tasks])
    assert (np.minimum(probabilities, 1.0 - probabilities) <= 0.1 + 1e-9).all()
    assert 0.4 < (probabilities > 0.5).mean() < 0.6


@pytest.mark.parametrize("bad", [[0.5] * 4, [0.5] * 6, [0.5, 0.5, 0.5, 0.5, 1.2], [-0.1] * 5, [float("nan")] * 5, 0.5])
def test_impossible_probabilities_are_refused(bad: object) -> None:
    with pytest.raises(UserError, match="probabilities"):
        FAMILY.task_from_json({"probabilities": bad})
    good = json.loads(json.dumps(BanditTask((0.5,) * 5).to_json()))
    assert good == {"probabilities": [0.5] * 5}
    assert FAMILY.task_from_json(good) == BanditTask((0.5,) * 5)


# -- the Bayes-optimal value -------------------------------------------------------------------------------------------


def brute_force(arms: int, pulls: int) -> Fraction:
    """The best expected return over every deterministic policy, which maps each history to an arm.

    The chance of a history is the integral over U(0, 1) probabilities: for each arm s! f! / (s + f + 1)!.
    """
    histories = [
        h for n in range(pulls) for h in itertools.product((0, 1), repeat=n)
    ]  # outcomes; the policy fixes arms
    factorial = [1, 1, 2, 6, 24, 120]
    best = Fraction(0)
    for choices in itertools.product(range(arms), repeat=len(histories)):
        policy = dict(zip(histories, choices, strict=True))
        total = Fraction(0)
        for outcomes in itertools.product((0, 1), repeat=pulls):
            counts = [[0, 0] for _ in range(arms)]
            for n, outcome in enumerate(outcomes):
                counts[policy[outcomes[:n]]][outcome] += 1
            chance = Fraction(1)
            for failed, paid in counts:
                chance *= Fraction(factorial[paid] * factorial[failed], factorial[paid + failed + 1])
            total += chance * sum(outcomes)
        best = max(best, total)
    return best


@pytest.mark.parametrize(("arms", "pulls"), [(1, 3), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3)])
def test_the_optimal_value_is_that_of_the_best_of_all_policies(arms: int, pulls: int) -> None:
    assert optimal_value(arms, pulls) == pytest.approx(float(brute_force(arms, pulls)), abs=1e-12)


def test_the_optimal_value_is_the_published_one() -> None:
    assert optimal_value(5, 10) == pytest.approx(6.660, abs=5e-4)
    assert optimal_value(10, 10) == pytest.approx(6.714, abs=5e-4)
    assert optimal_value(3, 0) == 0.0
    with pytest.raises(ValueError, match="at least 1 arm"):
        optimal_value(0, 3)


def test_the_optimal_policy_earns_its_value_in_the_simulator() -> None:
    """Neither less, so the tasks are drawn as the theory has them, nor more, so nothing leaks."""
    count = 3000
    batch = TaskBatch(FAMILY, FAMILY.sample("train", count, np.random.default_rng(0)))
    batch.reset(seed=0)
    seen = [[(0, 0)] * 5 for _ in range(count)]
    total = np.zeros(count)
    for left in range(10, 0, -1):
        arms = [int(np.argmax(pull_values(counts, left))) for counts in seen]
        reward = batch.step(pulls_of(arms)).reward
        for counts, arm, paid in zip(seen, arms, reward, strict=True):
            successes, failures = counts[arm]
            counts[arm] = (successes + 1, failures) if paid else (successes, failures + 1)
        total += reward
    error = float(total.std()) / count**0.5
    assert abs(total.mean() - optimal_value(5, 10)) < 2.5 * error
    assert error < 0.06
