"""The benchmark of sampling: the physics that it calls the limit is that of the same episodes, to the bit."""

from __future__ import annotations

import pytest

from benchmarks.sampling import WITHOUT_PHYSICS, Config, measure
from envs.families import FAMILIES


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in WITHOUT_PHYSICS])
def test_the_limit_replays_every_familys_episodes(name: str) -> None:
    config = Config(tasks=2, episodes=2, repeats=1, workers=0, threads=1)
    figures = measure(config, name)  # which refuses a replay that ends elsewhere
    assert set(figures["samples"]) == {"quickstudy", "limit"}
    assert figures["share"] > 0
