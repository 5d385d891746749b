"""95 % intervals over training runs and tasks that hold for few runs, as pure functions of matrices.

Every run meets every task, and both are samples: another training run would be better or worse on all tasks, another
task harder or easier for all runs. So each axis of a matrix has a variance of its own, and with three runs that of the
runs is known to two degrees of freedom. Each axis gets the margin that it would have alone, Student's t times its
standard error, and the margins are added in quadrature:

    margin² = sum over axes with n > 1 entries of  t(n - 1)² s² / n

s² / n is the variance of the figure over that axis: for a mean, that of the means along it; for other figures, the
bootstrap's, whose divisor n becomes n - 1. It is the interval of Banerjee (1960, Sankhya 22) for a sum of independent
parts, which covers at least what it says. An axis with one entry tells nothing and is left out: with one training run
an interval is over tasks alone. tests/evaluation/test_intervals.py measures the coverage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CONFIDENCE = 0.95


@lru_cache(maxsize=256)
def student_t(freedom: int) -> float:
    """The quantile that |t| stays below in 95 % of draws, with so many degrees of freedom (1 or more).

    With t = sqrt(freedom) tan(angle) the density of the angle is cos(angle)^(freedom - 1), summed here on a grid.
    """
    angle = np.linspace(0.0, np.pi / 2, 100_001)
    density = np.cos(angle[:-1]) ** (freedom - 1)
    below = np.append(0.0, np.cumsum(density + np.append(density[1:], float(freedom == 1))))
    return float(np.sqrt(freedom) * np.tan(np.interp(CONFIDENCE, below / below[-1], angle)))


@dataclass(frozen=True)
class Spread:
    """How figures [...] vary over each axis of what they were computed from.

    parts: for each axis with several entries a factor and samples [..., M] of the figures; the axis' margin is the
    factor times their standard deviation.
    """

    parts: tuple[tuple[float, np.ndarray], ...]

    def of(self, figure: Callable[[np.ndarray], np.ndarray]) -> Spread:
        """The spread of another figure: a function of these, linear where they are means. Samples stay paired."""
        return Spread(tuple((factor, figure(samples)) for factor, samples in self.parts))

    def margin(self) -> np.ndarray:
        """[...]: half the width of the interval; 0 where no axis has more than one entry."""
        total = np.zeros(())
        for factor, samples in self.parts:
            total = total + (factor * samples.std(axis=-1)) ** 2
        return np.asarray(np.sqrt(total))


def spread_of_means(values: np.ndarray, axes: int = 2) -> Spread:
    """The spread of the mean over the last `axes` axes of values [..., n1, n2, ...]: exact, nothing is drawn."""
    parts = []
    for axis in range(-axes, 0):
        if (n := values.shape[axis]) > 1:
            others = tuple(other for other in range(-axes, 0) if other != axis)
            parts.append((student_t(n - 1) / np.sqrt(n - 1), values.mean(axis=others)))
    return Spread(tuple(parts))


def spread_by_bootstrap(
    figure: Callable[..., np.ndarray | float], sizes: Sequence[int], seed: int = 0, draws: int = 500
) -> Spread:
    """The spread of any figure. figure: of one array of indices for each axis, with repeats; sizes: of the axes.

    One axis is resampled at a time, the others stay whole. The same seed gives the same spread.
    """
    rng = np.random.default_rng(seed)
    whole = [np.arange(n) for n in sizes]
    parts = []
    for axis, n in enumerate(sizes):
        drawn = rng.integers(n, size=(draws, n))
        if n > 1:
            found = [figure(*whole[:axis], chosen, *whole[axis + 1 :]) for chosen in drawn]
            parts.append((student_t(n - 1) * np.sqrt(n / (n - 1)), np.stack(found, axis=-1)))
    return Spread(tuple(parts))
