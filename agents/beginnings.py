"""With which of the memories that a trial's episodes began with a later episode begins, and which is the best.

A trial is played with noise, and what follows it without: sums of the two are not comparable, and noise costs return.
So a beginning is judged by the mean return of its episodes without noise, and by the trial's only where it has none.
Noise lowers the returns of the trial, so by that rule alone the first choice would rarely change. Therefore the second
episode after the trial tries the most promising beginning that has not been played without noise.
"""

from __future__ import annotations

import torch
from torch import Tensor


def best_beginning(trial: Tensor, earned: Tensor, played: Tensor) -> Tensor:
    """[N] the best of S beginnings, of equals the latest.

    trial [N, S]: the returns of the trial's episodes. earned, played [N, S]: sum of the returns of the episodes without
    noise that began so, and their number.
    """
    return _latest_best(torch.where(played > 0, earned / played.clamp(min=1.0), trial))


def next_beginning(trial: Tensor, earned: Tensor, played: Tensor) -> Tensor:
    """[N] with which the next episode begins that is learned from; arguments as of `best_beginning`."""
    untried = _latest_best(trial.masked_fill(played > 0, -torch.inf))
    tries = (played.sum(1) == 1) & (played == 0).any(1)
    return torch.where(tries, untried, best_beginning(trial, earned, played))


def _latest_best(values: Tensor) -> Tensor:
    return values.shape[1] - 1 - values.flip(1).argmax(1)
