"""The best that anyone can do on the `bandit` family: the Bayes-optimal policy and its value, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

Arm = tuple[int, int]  # (successes, failures) seen of an arm: its probability is Beta(1 + successes, 1 + failures)


def optimal_value(arms: int, pulls: int) -> float:
    """The expected return of the Bayes-optimal policy over `pulls` pulls of `arms` Bernoulli arms ~ U(0, 1).

    With Beta posteriors, an arm seen to pay s times and to fail f times pays next with p = (s + 1) / (s + f + 2), and

        V(seen, n) = max_i  p_i (1 + V(seen + success of i, n - 1)) + (1 - p_i) V(seen + failure of i, n - 1).

    Time and memory grow quickly with `pulls`: 15 pulls of 5 arms take a third of a second. Raises `ValueError` without
    an arm.
    """
    if arms < 1 or pulls < 0:
        raise ValueError(f"a bandit has at least 1 arm and 0 pulls, got {arms} and {pulls}")
    return _value(((0, 0),) * arms, pulls)


def pull_values(seen: Sequence[Arm], pulls: int) -> list[float]:
    """What each arm is worth when `pulls` pulls are left: pull it, and go on as the Bayes-optimal policy does.

    seen: (successes, failures) of each arm. The policy itself pulls an arm of the largest value.
    """
    worth = {arm: _worth(tuple(sorted(seen)), arm, pulls) for arm in set(seen)}
    return [worth[arm] for arm in seen]


@cache
def _value(seen: tuple[Arm, ...], pulls: int) -> float:
    """The value does not depend on which arm saw what, so `seen` is sorted, and equal arms are asked about once."""
    if pulls == 0:
        return 0.0
    return max(_worth(seen, arm, pulls) for arm in set(seen))


def _worth(seen: tuple[Arm, ...], arm: Arm, pulls: int) -> float:
    successes, failures = arm
    others = list(seen)
    others.remove(arm)
    probability = (successes + 1) / (successes + failures + 2)
    paid = _value(tuple(sorted([*others, (successes + 1, failures)])), pulls - 1)
    failed = _value(tuple(sorted([*others, (successes, failures + 1)])), pulls - 1)
    return probability * (1.0 + paid) + (1.0 - probability) * failed
