"""The statistics of adaptation, as pure functions of matrices.

Matrices are [..., seeds, tasks]: a statistic reduces the last two axes, so a curve of P probes is [P, seeds, tasks].
The interquartile mean follows Agarwal et al., Deep RL at the edge of the statistical precipice (arXiv 2108.13264). It
says what a typical task is like, and hides that a family falls in two: where every fourth task is solved it sees none.
So it stands beside the plain mean and the share solved, never alone. Intervals are in `evaluation.intervals`.
"""

from __future__ import annotations

import numpy as np


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """[...]: the mean without the lowest and the highest quarter (rounded down) of all seeds x tasks."""
    runs = np.sort(values.reshape(*values.shape[:-2], -1), axis=-1)
    cut = runs.shape[-1] // 4
    mean: np.ndarray = runs[..., cut : runs.shape[-1] - cut].mean(axis=-1)
    return mean


def mean(values: np.ndarray) -> np.ndarray:
    """[...]: the mean over seeds and tasks."""
    return np.asarray(values.mean(axis=(-2, -1)))


def normalised_score(returns: np.ndarray, random: float, oracle: float) -> np.ndarray:
    """Returns on the scale random = 0, oracle = 1. The oracle must be better than random."""
    if oracle <= random:
        raise ValueError(f"the oracle's return {oracle} is no better than the random one {random}")
    return (returns - random) / (oracle - random)


def area_weights(steps: np.ndarray, budget: float) -> np.ndarray:
    """[P] weights that sum to 1: how much of a budget of steps is spent between each probe and the next.

    steps [P] increase from 0. What an agent can do is constant from one probe to the next, because it learns only when
    a round ends, and stays as it is after the last probe: `values @ area_weights(...)` is the area under that
    staircase, divided by the budget.
    """
    edges = np.append(np.clip(steps, 0.0, budget), budget)
    return np.asarray(np.diff(edges) / budget)


def steps_to(steps: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float | None, float]:
    """Steps until each run's score first reached the threshold: the median over runs and the share that never did.

    steps, scores: [P, seeds, tasks]. The median counts a run that never got there as infinite, and is none if it is.
    """
    reached = scores >= threshold
    first = np.take_along_axis(steps, reached.argmax(axis=0)[None], axis=0)[0]
    spent = np.where(reached.any(axis=0), first, np.inf)
    median = float(np.median(spent))
    return (median if np.isfinite(median) else None), float(np.isinf(spent).mean())


def equivalent_steps(steps: np.ndarray, returns: np.ndarray, target: float) -> tuple[float, bool]:
    """Steps at which a curve (steps [P], returns [P]) first reaches a target, and whether that is censored.

    Between two probes the best return so far is taken to rise evenly. Censored: the curve never gets there, and the
    figure is its last step, a lower bound.
    """
    best = np.maximum.accumulate(returns)
    if best[-1] < target:
        return float(steps[-1]), True
    after = int(np.argmax(best >= target))
    if after == 0:
        return float(steps[0]), False
    share = (target - best[after - 1]) / (best[after] - best[after - 1])
    return float(steps[after - 1] + share * (steps[after] - steps[after - 1])), False


def wins(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """[seeds, seeds', tasks]: 1 where a run of ours [seeds, tasks] beats one of theirs [seeds', tasks] on the same
    task, 1/2 where both are equal. Its mean is the probability of improvement."""
    one, other = ours[:, None, :], theirs[None, :, :]
    return np.asarray((one > other) + 0.5 * (one == other))


def worst_decile(values: np.ndarray) -> float:
    """Mean of the worst tenth of the tasks (rounded up), each task's value [seeds, tasks] being its mean over seeds."""
    tasks = np.sort(values.mean(axis=0))
    return float(tasks[: int(np.ceil(len(tasks) / 10))].mean())
