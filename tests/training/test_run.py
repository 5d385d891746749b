"""The run directory: what is in it, its config in and out, and agents taken out of it."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from probes import ProbeConfig, ProbeFamily
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import assets
from agents.maml import MamlConfig
from envs.errors import UserError
from training import checkpoint
from training.config import from_data, run_config_from_data
from training.log import RunLog
from training.loop import TrainConfig
from training.run import RunDirectory, export, load_agent, make_run_config, read_config
from training.streams import STREAMS, stream_seed
from training.train import resume, train


def test_the_config_survives_json(probe_run):
    for agent in ("probe", "maml", "rl2", "ppo-robust"):
        config = probe_run(agent)
        assert run_config_from_data(json.loads(json.dumps(config.to_json())), "here") == config


def test_toml_sets_what_differs_from_the_defaults(tmp_path, probe_run):
    path = tmp_path / "maml.toml"
    path.write_text(
        'agent = "maml"\nfamily = "probe"\n'
        "[agent_config]\nhidden_sizes = [32, 16]\ninner_lr = 1\n[train]\nsteps = 1_000\n"
    )
    assert read_config(path) == make_run_config(
        "maml", "probe", MamlConfig(hidden_sizes=(32, 16), inner_lr=1.0), TrainConfig(steps=1000)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('agent = "maml"', r"'family' is missing"),
        ('agent = "mamml"\nfamily = "probe"', r"no agent is called 'mamml': did you mean 'maml'\?"),
        ('agent = "ppo"\nfamily = "probe"', r"'ppo' has no training of its own: train one of maml, rl2"),
        ('agent = "maml"\nfamily = "prob"', r"no family is called 'prob': did you mean 'probe'\?"),
        ('agent = "maml"\nfamily = "probe"\nfamily_version = "0"', r"version 0 of probe, but this is version 1"),
        ('agent = "maml"\nfamily = "probe"\ntrian = 1', r"no setting is called 'trian': did you mean 'train'\?"),
        ('agent = "maml"\nfamily = "probe"\ntrain = 1', r"'train' must be a table"),
        ('agent = "maml"\nfamily = "probe"\n[train]\nstep = 1', r"called 'train\.step': did you mean 'train\.steps'\?"),
        ('agent = "maml"\nfamily = "probe"\n[train]\nsteps = "9"', r"train\.steps: input should be a valid integer"),
        ('agent = "maml"\nfamily = "probe"\n[train]\nsteps = 0', r"train\.steps must be at least 1, got 0"),
        ('agent = "maml"\nfamily = "probe"\n[train]\nseed = -1', r"train\.seed must be at least 0, got -1"),
        (
            'agent = "maml"\nfamily = "probe"\n[agent_config]\ninner_lr = nan',
            r"inner-lr must be from 1e-08 to 10000, got nan",
        ),
        (
            'agent = "maml"\nfamily = "probe"\n[agent_config]\ninner_lr = 2000-01-01',
            r"agent_config holds something that is no number",
        ),
        ('agent = "maml"\nfamily = "probe"\n[agent_config]\ninner_rl = 1', r"did you mean 'agent_config\.inner_lr'\?"),
        ("agent = maml", r"is not valid TOML"),
    ],
)
def test_a_mistake_in_a_config_is_one_clear_line(text, message, tmp_path, probe_run):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        read_config(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: ProbeConfig


def test_an_unknown_setting_is_refused_at_any_depth():
    with pytest.raises(UserError, match=r"'inner\.learnin_rate': did you mean 'inner\.learning_rate'\?"):
        from_data(Outer, {"inner": {"learnin_rate": 1.0}}, "here")


def test_unreadable_configs_are_said(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none\.toml: No such file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_config(tmp_path / "binary.toml")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(UserError, match="does not hold a table"):
        read_config(tmp_path / "list.json")


def test_a_run_says_what_it_was_made_with(tmp_path, probe_run, console):
    run = train(probe_run(threads=0), tmp_path / "run", console)
    manifest = run.manifest()
    assert {"python", "mujoco", "torch", "numpy", "stable-baselines3", "quickstudy"} <= manifest["versions"].keys()
    assert manifest["versions"]["torch"] == torch.__version__
    assert (manifest["seed"], manifest["family_version"]) == (3, "1")
    assert manifest["threads"] == run.config().train.threads > 0
    assert {"command", "machine", "commit", "started"} <= manifest.keys()


def test_the_log_is_the_same_in_lines_and_in_events(tmp_path, probe_run, console):
    run = train(probe_run(), tmp_path / "run", console)
    rows = run.progress()
    assert [(row["iteration"], row["env_steps"]) for row in rows] == [(1, 320), (2, 640), (3, 960)]
    events = EventAccumulator(str(run.tensorboard)).Reload()
    tags = events.Tags()["scalars"]
    for tag in (
        *("rollout/ep_rew_mean", "rollout/success_rate", "rollout/round_2_return", "rollout/terms/near"),
        *("train/loss", "time/fps", "time/collect_share", "adapt/round_4_return", "adapt/round_1_success"),
    ):
        logged = [(row["env_steps"], row["metrics"][tag]) for row in rows if tag in row["metrics"]]
        assert tag in tags
        assert [event.step for event in events.Scalars(tag)] == [step for step, _ in logged]
        assert [event.value for event in events.Scalars(tag)] == pytest.approx([value for _, value in logged])


def test_a_figure_that_is_not_finite_leaves_valid_json(tmp_path, probe_run):
    run = RunDirectory.create(tmp_path / "run", probe_run())
    with RunLog(run, checkpoint.Counters()) as log:
        log.write(checkpoint.Counters(1, 10), {"train/explained_variance": math.nan})
    assert run.progress()[0]["metrics"] == {"train/explained_variance": None}
    assert "NaN" not in run.progress_path.read_text()


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path, probe_run, console):
    run = RunDirectory.create(tmp_path / "run", probe_run())
    with run.locked(), pytest.raises(UserError, match="is being trained by another process"), run.locked():
        pass
    with run.locked():
        pass


def test_a_trained_agent_is_loaded_from_its_run(tmp_path, probe_run, console):
    run = train(probe_run(), tmp_path / "run", console)
    loaded = load_agent(run.path)
    assert (loaded.env_steps, loaded.config, loaded.path) == (960, run.config(), run.path)
    assert loaded.family.name == "probe"
    last = checkpoint.latest(run.checkpoints, pytest.fail)
    assert torch.equal(loaded.agent.state()["policy.gain"], last.tensors["policy.gain"])


def test_robust_weights_become_finetuned_ones(tmp_path, probe_run, console):
    run = train(probe_run("ppo-robust", steps=1), tmp_path / "run", console)
    robust, finetuned = load_agent(run.path).agent, load_agent(run.path, "ppo-finetuned").agent
    assert finetuned.name == "ppo-finetuned"
    for name, value in finetuned.state().items():
        assert torch.equal(value, robust.state()[name])


def test_weights_that_do_not_fit_are_refused(tmp_path, probe_run, console):
    run = train(probe_run("ppo-robust", steps=1), tmp_path / "run", console)
    with pytest.raises(UserError, match="holds a trained 'ppo-robust', which cannot be used as 'maml'"):
        load_agent(run.path, "maml")
    with pytest.raises(UserError, match="does not fit agent 'ppo-oracle'"):
        load_agent(run.path, "ppo-oracle")


def test_a_shipped_agent_is_found_by_name_and_others_are_listed(tmp_path, probe_run, console, monkeypatch):
    monkeypatch.setattr(assets, "path", lambda name: tmp_path / "assets" / name)
    run = train(probe_run(), tmp_path / "run", console)
    shipped = export(run, tmp_path / "assets" / "checkpoints" / "probe" / "probe")
    monkeypatch.chdir(tmp_path)
    assert load_agent("probe/probe").path == shipped.path
    for reference in ("probe/grasp", "../run2", "probe"):
        with pytest.raises(UserError, match=f"'{reference}' is neither .* shipped agents: probe/probe$"):
            load_agent(reference)
    with pytest.raises(UserError, match=r"is not a run: it has no config\.json"):
        load_agent(tmp_path)


def test_an_export_holds_what_made_the_agent_and_no_path(tmp_path, probe_run, console):
    run = train(probe_run(checkpoint_every=320), tmp_path / "run", console)
    manifest = run.manifest()
    manifest["command"] = ["quickstudy", "train", "--out", str(tmp_path / "run")]
    run.manifest_path.write_text(json.dumps(manifest))
    shipped = export(run, tmp_path / "shipped")
    assert shipped.config() == run.config()
    assert shipped.progress() == run.progress()
    assert [path.name for path in checkpoint.scan(shipped.checkpoints)] == ["iteration-00000003"]
    assert str(tmp_path) not in "".join(p.read_text(errors="replace") for p in shipped.path.rglob("*") if p.is_file())
    with pytest.raises(UserError, match="is not an empty folder"):
        export(run, shipped.path)


@pytest.mark.parametrize("agent", ["maml", "rl2", "ppo-robust"])
def test_what_is_shipped_acts_alike_without_the_optimisers_moments(tmp_path, probe_run, console, agent):
    run = train(probe_run(agent), tmp_path / "run", console)
    shipped = export(run, tmp_path / "shipped")
    whole, weights = (checkpoint.latest(each.checkpoints, print).tensors for each in (run, shipped))
    assert set(weights) == {name for name in whole if not name.split("/")[-1].startswith(("exp_avg", "step"))}
    before, after = load_agent(run.path).agent, load_agent(shipped.path).agent
    obs = torch.ones(2, 1, ProbeFamily.observation_size)
    decisions = [
        one.act(one.fresh(2, 1, torch.Generator().manual_seed(0)), obs, explore=False)[0].action
        for one in (before, after)
    ]
    assert torch.equal(*decisions)
    with pytest.raises(UserError, match=f"holds weights alone, .* `quickstudy train {agent} probe --config"):
        resume(shipped.path, steps=10_000, console=console)


def test_streams_never_share_a_seed():
    seeds = {stream_seed(seed, stream, i) for seed in range(5) for stream in STREAMS for i in range(50)}
    assert len(seeds) == 5 * len(STREAMS) * 50


def test_a_seal_under_a_damaged_name_is_not_taken_for_none(tmp_path, probe_run, console):
    run = train(probe_run(), tmp_path / "run", console)
    run.manifest_path.write_text(run.manifest_path.read_text().replace('"sha256"', '"sha25v"'))
    with pytest.raises(UserError, match="is damaged: no manifest has a line 'sha25v'"):
        run.manifest()
