"""Returns, advantages and the linear baseline against sums that anyone can do on paper.

Decimal fractions are written as such; where a sum is long it stands in the comment above its result.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from agents.advantages import discounted_returns, generalized_advantages, linear_baseline, normalised
from evaluation.validation.check import Check, close

BOUND = 1e-12
COLLINEAR = 1e-8  # features of the baseline are nearly dependent: its system is solved to fewer digits


def column(*values: float) -> Tensor:
    """[T, 1, 1]: one environment."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


def worst(value: Tensor, truth: Tensor) -> float:
    return float((value - truth).abs().max())


def returns() -> Check:
    # 3; 2 + 0.5 * 3 = 3.5; 1 + 0.5 * 3.5 = 2.75
    error = worst(discounted_returns(column(1, 2, 3), 0.5), column(2.75, 3.5, 3))
    return close("discounted returns by hand", "rewards 1, 2, 3 at discount 0.5", error, BOUND)


def advantages() -> Check:
    # No end in the middle: delta = 2 + 0.9 * 2 - 0.25 = 3.55; 0 + 0.9 * 0.25 - 1 = -0.775; 1 + 0.9 * 1 - 0.5 = 1.4.
    # A = 3.55; -0.775 + 0.45 * 3.55 = 0.8225; 1.4 + 0.45 * 0.8225 = 1.770125.
    never = torch.zeros(3, 1, 1, dtype=torch.bool)
    open_ended = generalized_advantages(
        column(1, 0, 2), column(0.5, 1, 0.25), column(2)[0], never, discount=0.9, gae_lambda=0.5
    )
    error = worst(open_ended, column(1.770125, 0.8225, 3.55))
    return close("GAE by hand", "delta and its decayed sums, with a value after the last step", error, BOUND)


def advantages_with_an_end() -> Check:
    # The episode ends with the second step: delta = 0 - 1 = -1 there, and nothing crosses the end.
    # A = 3.55; -1; 1.4 + 0.45 * -1 = 0.95.
    ends = torch.tensor([False, True, False]).reshape(3, 1, 1)
    ended = generalized_advantages(
        column(1, 0, 2), column(0.5, 1, 0.25), column(2)[0], ends, discount=0.9, gae_lambda=0.5
    )
    error = worst(ended, column(0.95, -1, 3.55))
    return close("GAE by hand, termination in the middle", "no value and no advantage crosses an end", error, BOUND)


def normalisation() -> Check:
    # 1, 2, 3 and an invalid 100: mean 2, deviation sqrt(2 / 3), so -sqrt(1.5), 0, sqrt(1.5), and 0 for the invalid one.
    valid = torch.tensor([True, True, True, False]).reshape(4, 1, 1)
    root = 1.5**0.5
    error = worst(normalised(column(1, 2, 3, 100), valid, (0, 2)), column(-root, 0, root, 0))
    return close("normalised advantages by hand", "steps that were not taken do not count", error, 1e-7)


def constant_baseline() -> Check:
    # Nothing observed at time 0: only the constant feature is left. Two episodes with returns 1 and 3, ridge 1e-4 * 2:
    # (1 + 3) / (2 + 2e-4) = 2 / 1.0001.
    obs, got = torch.zeros(1, 1, 2, 1, dtype=torch.float64), torch.tensor([[[1.0, 3.0]]], dtype=torch.float64)
    fitted = linear_baseline(obs, got, torch.ones_like(got, dtype=torch.bool))
    error = worst(fitted, torch.full_like(fitted, 2 / 1.0001))
    return close("linear baseline by hand, one step", "the ridge regression of a constant", error, BOUND)


OBSERVED = ((-2, 1), (0, 3), (1, -1))  # [T][E], in halves
RETURNED = ((4, 1), (-2, 3), (5, 2))


def fitted_baseline() -> Check:
    """The normal equations in whole fractions, by Gauss' elimination, last step of the second episode not taken."""
    rows, targets, counts = [], [], []
    for t, (observed, returned) in enumerate(zip(OBSERVED, RETURNED, strict=True)):
        for e in range(2):
            o, time = Fraction(observed[e], 2), Fraction(t, 3)
            rows.append([o, o**2, time, time**2, time**3, Fraction(1)])
            targets.append(Fraction(returned[e]))
            counts.append((t, e) != (2, 1))
    ridge = Fraction(1, 10_000) * 6
    kept = [(row, target) for row, target, counted in zip(rows, targets, counts, strict=True) if counted]
    gram = [
        [sum((row[i] * row[j] for row, _ in kept), ridge if i == j else Fraction(0)) for j in range(6)]
        for i in range(6)
    ]
    moments = [sum((row[i] * target for row, target in kept), Fraction(0)) for i in range(6)]
    weights = solve(gram, moments)
    truth = [float(sum((w * x for w, x in zip(weights, row, strict=True)), Fraction(0))) for row in rows]
    fitted = linear_baseline(
        torch.tensor(OBSERVED, dtype=torch.float64).reshape(3, 1, 2, 1) / 2,
        torch.tensor(RETURNED, dtype=torch.float64).reshape(3, 1, 2),
        torch.tensor(counts).reshape(3, 1, 2),
    )
    error = worst(fitted.reshape(-1), torch.tensor(truth, dtype=torch.float64))
    return close(
        "linear baseline in whole fractions", "its regression solved exactly, a step left out", error, COLLINEAR
    )


def solve(matrix: list[list[Fraction]], target: list[Fraction]) -> list[Fraction]:
    """x with matrix x = target, exactly, by Gauss' elimination; the matrix is positive definite."""
    rows = [[*row, value] for row, value in zip(matrix, target, strict=True)]
    for pivot in range(len(rows)):
        rows[pivot] = [value / rows[pivot][pivot] for value in rows[pivot]]
        for other in range(len(rows)):
            if other != pivot:
                factor = rows[other][pivot]
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[pivot], strict=True)]
    return [row[-1] for row in rows]


def checks() -> list[Check]:
    return [
        returns(),
        advantages(),
        advantages_with_an_end(),
        normalisation(),
        constant_baseline(),
        fitted_baseline(),
    ]
