"""The Bayes-optimal value of the bandit, which RL² is measured against, by exact dynamic programming."""

from __future__ import annotations

from envs.bandit_value import optimal_value
from evaluation.validation.check import Check


def checks() -> list[Check]:
    # Two arms, two pulls: the first pays 1/2; after a payout the same arm pays 2/3, after none the other pays 1/2.
    by_hand = 1 / 2 + (1 / 2 * 2 / 3 + 1 / 2 * 1 / 2)
    meaning = "what the best use of every payout seen can earn; RL² is measured against it"
    return [
        Check("bandit by hand: 2 arms, 2 pulls", "13/12 on paper", "=", by_hand, optimal_value(2, 2), 1e-12),
        Check("bandit: 5 arms, 10 pulls", meaning, "=", 6.660, optimal_value(5, 10), 5e-4),
        Check("bandit: 10 arms, 10 pulls", meaning, "=", 6.714, optimal_value(10, 10), 5e-4),
    ]
