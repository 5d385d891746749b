"""Time is put down to the right phase, once, and nothing stays wrapped."""

from __future__ import annotations

import threading
import time

import pytest

import training.loop
from benchmarks.stopwatch import Stopwatch, watched
from envs.families import make_family
from training.loop import TrainConfig, iterate
from training.run import build_agent, make_run_config


def test_phases_nest() -> None:
    watch = Stopwatch()
    inner = watch.wrap(lambda: time.sleep(0.02), "inner")
    with watch.phase("outer"):
        time.sleep(0.01)
        inner()
        inner()
    assert watch.total["outer"] == pytest.approx(watch.own["outer"] + watch.own["inner"], abs=1e-9)
    assert watch.own["inner"] >= 0.04
    assert 0.01 <= watch.own["outer"] < watch.total["outer"] - 0.04 + 1e-9


def test_a_phase_within_itself_counts_once() -> None:
    watch = Stopwatch()
    with watch.phase("again"), watch.phase("again"):
        time.sleep(0.01)
    assert watch.total["again"] == pytest.approx(watch.own["again"], abs=1e-3)


def test_a_phase_ends_with_an_error_too() -> None:
    watch = Stopwatch()
    with watch.phase("outer"):
        with pytest.raises(ZeroDivisionError):
            watch.wrap(lambda: 1 / 0, "inner")()
        time.sleep(0.01)
    assert watch.own["outer"] >= 0.01


def test_other_threads_are_left_to_whoever_waits() -> None:
    watch = Stopwatch()
    worker = threading.Thread(target=watch.wrap(lambda: time.sleep(0.02), "elsewhere"))
    with watch.phase("waiting"):
        worker.start()
        worker.join()
    assert watch.own["waiting"] >= 0.02
    assert "elsewhere" not in watch.own


@pytest.mark.parametrize(
    ("agent", "settings", "phases"),
    [
        ("maml", {"meta_batch_size": 2, "episodes_per_step": 2, "hidden_sizes": (4,)}, {"adaptation", "advantages"}),
        ("rl2", {"meta_batch_size": 2, "hidden_size": 4, "minibatches": 1, "episodes_per_trial": 2}, {"advantages"}),
        ("ppo-robust", {"meta_batch_size": 2, "episodes_per_task": 2, "batch_size": 8}, {"advantages"}),
    ],
)
def test_an_iteration_is_accounted_for(probe_family: str, agent: str, settings: dict, phases: set[str]) -> None:
    family = make_family(probe_family)
    train = TrainConfig(threads=1)
    base = make_run_config(agent, probe_family, None, train)
    learner = build_agent(
        make_run_config(agent, probe_family, type(base.agent_config)(**settings), train),
        family,
    )
    untouched = training.loop.TaskBatch, training.loop.collect, dict(vars(learner))
    with watched(learner, family) as watch, watch.phase("other"):
        iterate(learner, family, train, 0)
    for phase in {"physics", "environment", "policy", "tasks", "collecting", "update", *phases}:
        assert watch.own[phase] > 0.0, phase
    assert sum(watch.own.values()) == pytest.approx(watch.total["other"], rel=1e-6)
    assert watch.total["collecting"] > watch.own["physics"] + watch.own["environment"]
    assert (training.loop.TaskBatch, training.loop.collect) == untouched[:2]
    assert vars(learner).keys() == untouched[2].keys()
    assert "sample" not in vars(family)
