"""The statistics on matrices typed by hand, with the arithmetic beside them."""

import numpy as np
import pytest

from evaluation import metrics


def test_interquartile_mean_drops_a_quarter_on_each_side() -> None:
    # Sorted: 0 1 | 2 3 4 5 | 6 100, so (2 + 3 + 4 + 5) / 4.
    assert metrics.interquartile_mean(np.array([[0.0, 100.0, 2.0, 5.0], [1.0, 4.0, 3.0, 6.0]])) == 3.5
    # Three values lose none: a quarter of 3, rounded down, is 0.
    assert metrics.interquartile_mean(np.array([[1.0, 2.0, 6.0]])) == 3.0


def test_statistics_reduce_the_last_two_axes() -> None:
    curve = np.arange(24.0).reshape(3, 2, 4)
    assert metrics.mean(curve) == pytest.approx([3.5, 11.5, 19.5])
    assert metrics.interquartile_mean(curve) == pytest.approx([3.5, 11.5, 19.5])


def test_normalised_score() -> None:
    assert metrics.normalised_score(np.array([2.0, 4.5, 7.0, 12.0]), 2.0, 7.0).tolist() == [0.0, 0.5, 1.0, 2.0]
    with pytest.raises(ValueError, match="no better than the random"):
        metrics.normalised_score(np.array([1.0]), 3.0, 3.0)


def test_area_is_that_of_the_staircase() -> None:
    # Score 0 for 100 steps, 0.5 for 100, then 1 for the last 200 of 400: (0 + 50 + 200) / 400.
    weights = metrics.area_weights(np.array([0.0, 100.0, 200.0]), 400.0)
    assert weights.tolist() == [0.25, 0.25, 0.5]
    assert np.array([0.0, 0.5, 1.0]) @ weights == 0.625
    # What comes after the budget counts nothing.
    assert metrics.area_weights(np.array([0.0, 100.0, 300.0, 900.0]), 200.0).tolist() == [0.5, 0.5, 0.0, 0.0]
    # An agent that is measured once, before it learns anything.
    assert metrics.area_weights(np.array([0.0]), 50.0).tolist() == [1.0]


def test_steps_to_counts_the_runs_that_never_got_there() -> None:
    # Four runs (2 seeds x 2 tasks), three probes; the runs reach 0.5 after 20, 10, never, 0 steps.
    scores = np.array([[[0.1, 0.0], [0.2, 0.6]], [[0.4, 0.5], [0.3, 0.1]], [[0.5, 0.2], [0.4, 0.9]]])
    steps = np.broadcast_to(np.array([0.0, 10.0, 20.0])[:, None, None], scores.shape)
    assert metrics.steps_to(steps, scores, 0.5) == (15.0, 0.25)
    # Only one run ever reaches 0.9: the median run never does.
    assert metrics.steps_to(steps, scores, 0.9) == (None, 0.75)
    # Two of four: the median is half way between 0 steps and never.
    assert metrics.steps_to(steps, scores, 0.55) == (None, 0.75)
    assert metrics.steps_to(steps, scores, 0.0) == (0.0, 0.0)
    assert metrics.steps_to(steps[:, :1], scores[:, :1], 0.45) == (15.0, 0.0)


def test_steps_to_of_an_odd_number_of_runs() -> None:
    scores = np.array([[[0.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]]])
    steps = np.broadcast_to(np.array([0.0, 10.0])[:, None, None], scores.shape)
    assert metrics.steps_to(steps, scores, 1.0) == (10.0, pytest.approx(1 / 3))


def test_equivalent_steps() -> None:
    steps, returns = np.array([0.0, 100.0, 300.0, 700.0]), np.array([1.0, 3.0, 2.0, 7.0])
    assert metrics.equivalent_steps(steps, returns, 0.5) == (0.0, False)
    assert metrics.equivalent_steps(steps, returns, 2.0) == (50.0, False)
    assert metrics.equivalent_steps(steps, returns, 3.0) == (100.0, False)
    # The best so far is 3 at 300 steps and 7 at 700: 4 lies a quarter of the way.
    assert metrics.equivalent_steps(steps, returns, 4.0) == (400.0, False)
    assert metrics.equivalent_steps(steps, returns, 7.0) == (700.0, False)
    assert metrics.equivalent_steps(steps, returns, 7.1) == (700.0, True)


def test_improvement_counts_pairs_on_the_same_task() -> None:
    # Task 1: 3 > 2 and 3 > 1, 1 < 2 and 1 = 1: 2.5 of 4. Task 2: 9 and 0 against 9 and 9: half a win twice... 1 of 4.
    ours = np.array([[3.0, 9.0], [1.0, 0.0]])
    theirs = np.array([[2.0, 9.0], [1.0, 9.0]])
    assert metrics.wins(ours, theirs).mean() == (2.5 + 1.0) / 8
    assert metrics.wins(ours, ours).mean() == 0.5
    assert metrics.wins(ours + 100, theirs).mean() == 1.0


def test_worst_decile_is_the_mean_of_the_worst_tasks() -> None:
    values = np.arange(20.0)[None] + np.array([[0.0], [2.0]])  # tasks' means: 1, 2, ... 20
    assert metrics.worst_decile(values[:, ::-1]) == 1.5  # the worst two of 20
    assert metrics.worst_decile(values[:, :11]) == 1.5  # 11 tasks: a tenth, rounded up, is 2
    assert metrics.worst_decile(values[:, :5]) == 1.0
