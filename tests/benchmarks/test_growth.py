"""What the scaling and flatness benchmarks make of their measurements, and the settings they start from."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from agents.maml import MamlConfig
from benchmarks.scaling import Flatness, Scaling, line, measure_scaling, memory, summarise
from benchmarks.settings import SETTINGS, agent_config, parse, words_for
from envs.errors import UserError


def test_line() -> None:
    slope, error = line(np.array([1.0, 3.0, 5.0, 7.0]))
    assert (slope, error) == pytest.approx((2.0, 0.0), abs=1e-12)
    slope, error = line(np.array([0.0, 1.0, 0.0, 1.0]))
    assert slope == pytest.approx(0.2)
    assert error == pytest.approx((0.8 / 2 / 5) ** 0.5)  # residuals -0.2, 0.6, -0.6, 0.2
    with pytest.raises(ValueError, match="at least 3"):
        line(np.array([1.0, 2.0]))


def test_growth_is_measured_against_the_smallest_and_the_cheapest() -> None:
    def runs(sampling: float, peak: float) -> list[dict]:
        return [{"sampling": sampling, "update": 1.0, "env_steps": 1000, "peak_megabytes": peak}]

    rows = summarise({10: runs(4.0, 100.0), 20: runs(2.0, 120.0), 40: runs(3.0, 180.0)})
    assert [row["of_first"]["sampling"] for row in rows.values()] == [1.0, 0.5, 0.75]
    assert [row["of_cheapest"]["sampling"] for row in rows.values()] == [1.0, 1.0, 1.5]
    assert [row["megabytes_per_further_task"] for row in rows.values()] == [None, 2.0, 3.0]
    assert rows[10]["microseconds_per_step"] == {"sampling": 4000.0, "update": 1000.0}


def test_memory_is_of_this_process() -> None:
    before = memory("VmRSS")
    pages = mmap.mmap(-1, 2**26)  # from the kernel: the heap may have as much to spare
    np.frombuffer(pages, np.uint8)[:] = 1
    assert memory("VmRSS") - before == pytest.approx(64, rel=0.2)
    assert memory("VmHWM") >= memory("VmRSS") * 0.99


def test_what_cannot_be_measured_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match="repeats must be at least 1, got 0"):
        Scaling(repeats=0)
    with pytest.raises(UserError, match="iterations must be at least 23, 3 more than warm-up; got 22"):
        Flatness(iterations=22)
    with pytest.raises(UserError, match="'random' has no training of its own"):
        measure_scaling(Scaling(agents=("random",)))


def test_settings() -> None:
    words = words_for("maml", "grasp", ["maml/grasp/outer=trpo", "rl2/grasp/epochs=1", "maml/grasp/epochs=2"])
    config = agent_config("maml", "grasp", parse(words))
    assert isinstance(config, MamlConfig)
    assert (config.outer, config.epochs) == ("trpo", 2)
    recipe = SETTINGS["maml", "cheetah-vel-2017"]
    assert agent_config("maml", "cheetah-vel-2017", {}).episodes_per_step == recipe["episodes_per_step"]
    with pytest.raises(UserError, match="names no cell"):
        words_for("maml", "grasp", ["epochs=2"])
    with pytest.raises(UserError, match="write NAME=VALUE"):
        parse(["epochs"])


def test_settings_that_this_version_lacks() -> None:
    with pytest.raises(UserError, match="no setting is called 'epoch'"):
        agent_config("maml", "grasp", {"epoch": 2})
    said: list[str] = []
    assert agent_config("maml", "grasp", {"epoch": 2}, said.append) == agent_config("maml", "grasp", {})
    assert said == ["epoch"]


@pytest.mark.parametrize(("agent", "family"), SETTINGS)
def test_every_setting_is_one(agent: str, family: str) -> None:
    agent_config(agent, family, {})
