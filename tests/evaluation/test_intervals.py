"""Intervals hold what they promise: their coverage by simulation, for few runs too, and hand arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation import metrics
from evaluation.intervals import spread_by_bootstrap, spread_of_means, student_t

TASKS = 40


def drawn(runs: int, deviation: float, rng: np.random.Generator, times: int) -> np.ndarray:
    """[times, runs, TASKS] around 0: runs, tasks and what is between them, as deviations of a score."""
    between_runs = rng.normal(0.0, deviation, (times, runs, 1))
    return between_runs + rng.normal(0.0, 0.3, (times, 1, TASKS)) + rng.normal(0.0, 0.25, (times, runs, TASKS))


def covered(values: np.ndarray, truth: float) -> float:
    """How often the interval of the mean of [times, runs, TASKS] holds the truth."""
    return float((np.abs(values.mean(axis=(-2, -1)) - truth) <= spread_of_means(values).margin()).mean())


@pytest.mark.parametrize("runs", [3, 5, 10])
@pytest.mark.parametrize("deviation", [0.05, 0.15])
def test_an_interval_of_a_mean_holds_the_truth_as_often_as_it_says(runs: int, deviation: float) -> None:
    values = drawn(runs, deviation, np.random.default_rng(runs), 4000)
    assert 0.945 <= covered(values, 0.0) <= 0.992  # 4000 draws of 0.95 deviate by 0.0034


def test_the_percentiles_of_a_bootstrap_would_not() -> None:
    """So the simulation can tell an interval that keeps its promise from one that does not."""
    rng = np.random.default_rng(0)
    values = drawn(3, 0.15, rng, 500)
    of_runs = rng.multinomial(3, np.full(3, 1 / 3), size=400) / 3
    of_tasks = rng.multinomial(TASKS, np.full(TASKS, 1 / TASKS), size=400) / TASKS
    low, high = np.quantile(((of_runs @ values) * of_tasks).sum(axis=-1), (0.025, 0.975), axis=-1)
    assert 0.7 < ((low <= 0.0) & (high >= 0.0)).mean() < 0.9


@pytest.mark.parametrize("runs", [3, 5, 10])
def test_it_holds_for_the_share_solved_of_a_family_that_falls_in_two(runs: int) -> None:
    """Success over four probes: three quarters of the tasks are easy, the others hard, and runs differ."""
    rng = np.random.default_rng(runs)

    def solved(runs: int, tasks: int, times: int) -> np.ndarray:
        ease = rng.choice([-2.5, 2.5], p=[0.25, 0.75], size=(times, 1, tasks))
        ease = ease + rng.normal(0.0, 0.8, (times, runs, 1)) + rng.normal(0.0, 1.0, (times, runs, tasks))
        return rng.binomial(4, 1.0 / (1.0 + np.exp(-ease))) / 4

    truth = float(solved(300, 300, 10).mean())
    assert 0.935 <= covered(solved(runs, TASKS, 2000), truth) <= 0.99


def test_it_holds_for_an_interquartile_mean() -> None:
    values = drawn(3, 0.15, np.random.default_rng(0), 100)
    held = 0
    for matrix in values:
        margin = spread_by_bootstrap(
            lambda runs, tasks, matrix=matrix: metrics.interquartile_mean(matrix[runs[:, None], tasks]),
            matrix.shape,
            draws=100,
        ).margin()
        held += abs(metrics.interquartile_mean(matrix)) <= margin
    assert held / 100 >= 0.93


def test_quantiles_of_student_are_those_of_tables() -> None:
    table = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 9: 2.2622, 39: 2.0227, 1000: 1.9623}
    for freedom, value in table.items():
        assert student_t(freedom) == pytest.approx(value, abs=2e-4)


def test_each_axis_has_the_margin_that_it_would_have_alone() -> None:
    # Runs: means 1, 2, 3, so s² = 1 and s² / 3. Tasks: means 1, 3, so s² = 2 and s² / 2.
    values = np.array([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]])
    expected = np.sqrt(4.3027**2 * 1.0 / 3.0 + 12.7062**2 * 2.0 / 2.0)
    assert float(spread_of_means(values).margin()) == pytest.approx(expected, rel=1e-4)
    found = spread_by_bootstrap(lambda r, t: values[r[:, None], t].mean(), values.shape, draws=4000).margin()
    assert float(found) == pytest.approx(expected, rel=0.03)


def test_one_run_leaves_the_tasks_and_one_task_the_runs() -> None:
    values = np.array([[1.0, 2.0, 6.0]])
    expected = 4.3027 * values.std(ddof=1) / np.sqrt(3)
    assert float(spread_of_means(values).margin()) == pytest.approx(expected, rel=1e-4)
    assert float(spread_of_means(values.T).margin()) == pytest.approx(expected, rel=1e-4)
    assert float(spread_of_means(np.ones((1, 1))).margin()) == 0.0
    assert float(spread_by_bootstrap(lambda r, t: 1.0, (1, 1)).margin()) == 0.0


def test_figures_of_a_curve_are_paired() -> None:
    first = np.random.default_rng(1).normal(size=(3, 5))
    curve = np.stack([first, first + 2.0])
    by_bootstrap = spread_by_bootstrap(lambda r, t: metrics.interquartile_mean(curve[:, r[:, None], t]), (3, 5))
    for spread in (spread_of_means(curve), by_bootstrap):
        assert spread.margin().shape == (2,)
        assert (spread.margin() > 0.5).all()
        assert float(spread.of(lambda drawn: drawn[1] - drawn[0]).margin()) == pytest.approx(0.0, abs=1e-12)


def test_the_same_figures_have_the_same_spread() -> None:
    values = np.random.default_rng(1).normal(size=(3, 5))
    once, again = (spread_by_bootstrap(lambda r, t: values[r[:, None], t].mean(), (3, 5)).margin() for _ in range(2))
    assert once == again


def test_three_axes() -> None:
    # A share over our runs, their runs and tasks: only tasks differ, so the interval is that of the tasks.
    wins = np.broadcast_to(np.repeat([0.0, 1.0], 20), (3, 5, 40))
    assert float(spread_of_means(wins, axes=3).margin()) == pytest.approx(
        student_t(39) * wins[0, 0].std(ddof=1) / np.sqrt(40)
    )
