"""Training and resuming: the run repeats, goes on bit for bit, and loses nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from probes import ProbeConfig, ProbeLearner

from agents.catalogue import agent_class
from envs.errors import UserError
from training import checkpoint
from training import train as training
from training.run import RunDirectory, read_config
from training.signals import Interrupted
from training.train import TrainingDiverged, resume, train


def sums(run: RunDirectory) -> dict[str, str]:
    """SHA-256 of each tensor of the last checkpoint: weights and optimiser state."""
    tensors = checkpoint.latest(run.checkpoints, pytest.fail).tensors
    return {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in sorted(tensors.items())}


def progress(run: RunDirectory) -> list[dict]:
    """Every line of the progress, times apart."""
    rows = run.progress()
    for row in rows:
        del row["seconds"]
        row["metrics"] = {tag: value for tag, value in row["metrics"].items() if not tag.startswith("time/")}
    return rows


TINY = {
    "probe": {},
    "maml": {"meta_batch_size": 3, "episodes_per_step": 2, "hidden_sizes": (8, 8)},
    "rl2": {"meta_batch_size": 4, "hidden_size": 8, "episodes_per_trial": 2, "minibatches": 2, "epochs": 2},
    "ppo-robust": {"meta_batch_size": 4, "episodes_per_task": 3, "hidden_sizes": (8,), "batch_size": 40},
    "ppo-oracle": {"meta_batch_size": 4, "episodes_per_task": 3, "hidden_sizes": (8,), "batch_size": 40},
}


@pytest.mark.parametrize("agent", TINY)
def test_a_resumed_run_equals_an_uninterrupted_one(agent, tmp_path, probe_run, console):
    agent_config = agent_class(agent).config_type(**TINY[agent])
    config = probe_run(agent, agent_config, steps=1, evaluate_every=1)
    one = train(config, tmp_path / "one", console).progress()[0]["env_steps"]

    config = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=6 * one))
    whole = train(config, tmp_path / "whole", console)
    half = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=3 * one))
    parts = resume(train(half, tmp_path / "parts", console).path, 6 * one, console)

    assert len(whole.progress()) == 6
    assert sums(parts) == sums(whole)
    # Without an optimiser's moments the comparison would miss half; a trust region has none.
    assert agent == "maml" or any("optimiser" in name for name in sums(whole))
    assert progress(parts) == progress(whole)
    assert parts.config() == whole.config() == config


def test_training_improves_the_probe_and_leaves_global_state_alone(tmp_path, probe_run, console):
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    rows = train(probe_run(steps=320 * 40, evaluate_every=320 * 20), tmp_path / "run", console).progress()
    assert rows[-1]["metrics"]["rollout/ep_rew_mean"] > rows[0]["metrics"]["rollout/ep_rew_mean"] + 0.5
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.get_num_threads() == threads


def test_held_out_evaluation_teaches_nothing_and_is_not_counted(tmp_path, probe_run, console):
    looked = train(probe_run(evaluate_every=1), tmp_path / "looked", console)
    blind = train(probe_run(evaluate_every=0), tmp_path / "blind", console)
    assert sums(looked) == sums(blind)
    assert looked.progress()[-1]["env_steps"] == blind.progress()[-1]["env_steps"] == 960
    assert "adapt/round_4_success" in looked.progress()[0]["metrics"]
    assert not any(tag.startswith("adapt/") for row in blind.progress() for tag in row["metrics"])
    counters = checkpoint.latest(looked.checkpoints, pytest.fail).counters
    assert counters.evaluation_steps == 3 * (2 * 2 * 4 * 10)  # times, tasks x episodes x rounds x steps


def test_another_seed_is_another_run(tmp_path, probe_run, console):
    runs = [train(probe_run(seed=seed), tmp_path / str(seed), console) for seed in (0, 1)]
    assert sums(runs[0]) != sums(runs[1])


def test_an_existing_run_is_never_overwritten(tmp_path, probe_run, console):
    run = train(probe_run(), tmp_path / "run", console)
    before = sums(run)
    with pytest.raises(UserError, match=r"run holds a run already: .*resume.*another --out"):
        train(probe_run(), run.path, console)
    assert sums(run) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("ten years")
    with pytest.raises(UserError, match="not an empty folder"):
        train(probe_run(), tmp_path / "other", console)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not an empty folder"):
        train(probe_run(), tmp_path / "file", console)


def test_a_spent_budget_is_refused_and_a_missing_run_named(tmp_path, probe_run, console):
    run = train(probe_run(), tmp_path / "run", console)
    with pytest.raises(UserError, match=r"already taken 960 steps: give a larger --steps"):
        resume(run.path, None, console)
    with pytest.raises(UserError, match=r"nowhere is not a run: it has no config\.json"):
        resume(tmp_path / "nowhere", None, console)


def test_an_update_that_leaves_nan_is_taken_back_and_counted(tmp_path, probe_run, console, monkeypatch):
    update = ProbeLearner.update

    def poisoned_once(self, rounds, generator, progress):
        poisoned = self.updates == 2 and not said()
        metrics = update(self, rounds, generator)
        if poisoned:
            self.gain.data.fill_(float("nan"))
        return metrics

    def said() -> bool:
        return "skipped" in console.file.getvalue()

    monkeypatch.setattr(ProbeLearner, "update", poisoned_once)
    run = train(probe_run(steps=1600), tmp_path / "run", console)
    last = checkpoint.latest(run.checkpoints, pytest.fail)
    assert (last.counters.iteration, last.counters.skipped, last.counters.skipped_in_a_row) == (5, 1, 0)
    assert int(last.tensors["updates"]) == 4
    assert "update 3 skipped: policy.gain not finite; 1 in a row" in console.file.getvalue()


def test_updates_that_all_fail_end_training_with_code_3_and_the_last_good_weights_stay(tmp_path, probe_run, console):
    config = probe_run(agent_config=ProbeConfig(poison_at=3), steps=320 * 40, checkpoint_every=320)
    with pytest.raises(TrainingDiverged, match=r"10 updates in a row were skipped, the last because of policy\.gain"):
        train(config, tmp_path / "run", console)
    assert TrainingDiverged.exit_code == 3
    last = checkpoint.latest(tmp_path / "run" / "checkpoints", pytest.fail)
    assert (last.counters.iteration, last.counters.skipped) == (12, 10)
    assert int(last.tensors["updates"]) == 2


def test_a_fault_of_our_own_says_where_the_last_checkpoint_is(tmp_path, probe_run, console, monkeypatch):
    def faulty(self, rounds, generator, progress):
        raise IndexError("ours")

    monkeypatch.setattr(ProbeLearner, "update", faulty)
    with pytest.raises(IndexError) as fault:
        train(probe_run(), tmp_path / "run", console)
    assert fault.value.__notes__ == [
        f"the last checkpoint is {tmp_path / 'run' / 'checkpoints' / 'iteration-00000000'};"
        f" `quickstudy resume {tmp_path / 'run'}` goes on from there"
    ]


def test_a_run_goes_on_with_another_number_of_threads(tmp_path, probe_run, console):
    run = train(probe_run(threads=2), tmp_path / "run", console)
    resume(run.path, 1280, console, threads=1)
    assert run.config().train.threads == run.manifest()["resumed"][0]["threads"] == 1
    assert "threads changed since this run began" in console.file.getvalue()
    told = len(console.file.getvalue())
    resume(run.path, 1600, console)
    assert run.config().train.threads == 1
    assert "changed" not in console.file.getvalue()[told:]


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path, probe_run, console):
    whole = train(probe_run(), tmp_path / "whole", console)
    run = RunDirectory.create(tmp_path / "run", probe_run())
    resume(run.path, None, console)
    assert sums(run) == sums(whole)
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UserError, match="no readable checkpoint"):  # there were some: the progress says so
        resume(run.path, 1920, console)


def test_a_signal_gives_up_the_iteration_and_the_run_goes_on(tmp_path, probe_run, console, monkeypatch):
    whole = train(probe_run(steps=1920), tmp_path / "whole", console)
    iterate = training.iterate

    def interrupted_in_the_second(learner, family, settings, iteration, progress):
        if iteration == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return iterate(learner, family, settings, iteration, progress)

    with monkeypatch.context() as patch:
        patch.setattr(training, "iterate", interrupted_in_the_second)
        with pytest.raises(Interrupted) as stopped:
            train(probe_run(steps=1920), tmp_path / "parts", console)
    assert stopped.value.exit_code == 143
    assert checkpoint.latest(tmp_path / "parts" / "checkpoints", pytest.fail).counters.iteration == 1
    parts = resume(tmp_path / "parts", None, console)
    assert sums(parts) == sums(whole)
    assert progress(parts) == progress(whole)


def test_a_second_signal_stops_even_a_save_and_the_last_checkpoint_stays(tmp_path, probe_run, console, monkeypatch):
    whole = train(probe_run(steps=1920), tmp_path / "whole", console)
    save = checkpoint.save
    handler = signal.getsignal(signal.SIGINT)  # a shell's background job ignores it

    def interrupted_twice(folder, tensors, counters, generators):
        if counters.iteration == 6:
            os.kill(os.getpid(), signal.SIGINT)
            assert RunDirectory(folder.parent).progress()[-1]["iteration"] == 6  # the first only asks
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second signal must end the save")
        return save(folder, tensors, counters, generators)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", interrupted_twice)
        with pytest.raises(Interrupted) as stopped:
            train(probe_run(steps=1920, checkpoint_every=640), tmp_path / "parts", console)
    assert stopped.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is handler
    run = RunDirectory.open(tmp_path / "parts")
    assert checkpoint.latest(run.checkpoints, pytest.fail).counters.iteration == 4
    with run.progress_path.open("a") as file:
        file.write('{"iteration": 5, "env_st')  # what a stop in the middle of a line leaves
    resume(run.path, None, console)
    assert sums(run) == sums(whole)
    assert progress(run) == progress(whole)


def test_checkpoints_are_pruned_to_the_last_ones(tmp_path, probe_run, console):
    run = train(probe_run(steps=320 * 6, checkpoint_every=320, keep=2), tmp_path / "run", console)
    assert [path.name for path in checkpoint.scan(run.checkpoints)] == [
        "iteration-00000004",
        "iteration-00000005",
        "iteration-00000006",
    ]


def test_a_damaged_last_checkpoint_is_passed_over_and_trained_again(tmp_path, probe_run, console):
    run = train(probe_run(steps=320 * 6, checkpoint_every=320), tmp_path / "run", console)
    before, rows = sums(run), progress(run)
    tensors = checkpoint.scan(run.checkpoints)[-1] / checkpoint.TENSORS
    tensors.write_bytes(tensors.read_bytes()[:-1])
    resume(run.path, None, console)
    assert "iteration-00000006 is damaged: tensors.safetensors has" in console.file.getvalue()
    assert sums(run) == before
    assert progress(run) == rows


def test_plain_lines_tell_the_figures_that_matter(tmp_path, probe_run, console):
    train(probe_run(), tmp_path / "run", console)
    said = console.file.getvalue()
    for part in ("probe on probe 100%", "960 steps", "left", "steps/s", "return", "->", "success", "held-out"):
        assert part in said


def test_the_config_of_a_run_makes_the_same_run_again(tmp_path, probe_run, console):
    first = train(probe_run(), tmp_path / "first", console)
    again = train(read_config(first.config_path), tmp_path / "again", console)
    assert sums(again) == sums(first)
    assert json.loads(again.config_path.read_text()) == json.loads(first.config_path.read_text())
