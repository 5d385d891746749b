"""The read-out explains what a linear law gives, and nothing of what is independent; baselines are judged apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from probes import ProbeFamily

from agents.agent import Sizes
from agents.maml import Maml, MamlConfig
from benchmarks.inner_signal import fitted_baselines, read_out
from envs.simulation import TaskBatch
from training.collect import collect


def test_a_read_out_explains_a_linear_law_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    sums = torch.randn(400, 3, generator=generator)
    noise = torch.randn(400, 1, generator=generator)
    assert read_out(sums, sums[:, :1] - 2 * sums[:, 1:2]) > 0.99
    assert read_out(sums, sums[:, :1] + noise) == pytest.approx(0.5, abs=0.15)
    assert read_out(sums, noise) < 0.1


def test_a_baseline_of_many_features_explains_what_it_is_fitted_to_and_less_of_another_episode() -> None:
    family = ProbeFamily()
    maml = Maml(MamlConfig(), Sizes.of(family), torch.Generator().manual_seed(0))
    batch = TaskBatch(family, family.sample("train", 20, np.random.default_rng(0)), 3, threads=1)
    played, _ = collect(maml, maml.fresh(20, 3, torch.Generator().manual_seed(1)), batch, seed=0, episode=0)
    noise = torch.randn(played.reward.shape, generator=torch.Generator().manual_seed(2))
    explained = fitted_baselines(replace(played, reward=noise))
    assert explained["observations"]["fitted"] > explained["time"]["fitted"] > 0.0
    assert explained["observations"]["left out"] < explained["time"]["left out"] + 0.05
