"""Runs whose files were cut short, altered or made to deceive: none is accepted silently, none ends in a traceback."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from answers import ask
from damage import damaged
from rich.console import Console

import quickstudy
from envs.errors import UserError
from training import checkpoint
from training.files import LOCK, sealed, unsealed
from training.run import RunDirectory, load_agent, make_run_config
from training.train import TrainConfig, resume, train

KINDS = {
    "weights": "checkpoints/iteration-00000004/tensors.safetensors",
    "state": "checkpoints/iteration-00000004/counters.json",
    "checkpoint's manifest": "checkpoints/iteration-00000004/manifest.json",
    "run's manifest": "manifest.json",
    "config": "config.json",
}


@pytest.fixture
def run(tmp_path: Path, probe_family: str) -> RunDirectory:
    """Four iterations of a small RL2 agent, a checkpoint after each."""
    default = make_run_config("rl2", probe_family).agent_config
    settings = type(default)(meta_batch_size=2, trials_per_task=1, hidden_size=4, head_size=4, episodes_per_trial=1)
    config = TrainConfig(steps=80, threads=1, evaluate_every=0, checkpoint_every=20)
    return train(make_run_config("rl2", probe_family, settings, config), tmp_path / "run", quiet())


def quiet() -> Console:
    return Console(file=io.StringIO(), width=1000)


def same_contents(path: Path, data: bytes) -> bool:
    """Is it the same table after all, other white space apart?"""
    try:
        return path.suffix == ".json" and json.loads(data) == json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_is_taken_for_what_was_written(
    kind: str,
    run: RunDirectory,
    tmp_path: Path,
    cases: Callable[[int, int], int],
    figure: Callable[[str, str], None],
) -> None:
    count, random, unchanged = cases(8, 200), np.random.default_rng(9), 0
    file, in_checkpoint = run.path / KINDS[kind], KINDS[kind].startswith("checkpoints")
    original = file.read_bytes()
    for _ in range(count):
        data = damaged(original, random)
        if data == original or same_contents(file, data):
            unchanged += 1
            continue
        file.write_bytes(data)
        copy = tmp_path / "copy"
        shutil.copytree(run.path, copy)
        if in_checkpoint:
            with pytest.raises(UserError) as refused:
                checkpoint.load(copy / KINDS[kind].rpartition("/")[0])
            assert "\n" not in str(refused.value)
            said: list[str] = []
            assert load_agent(copy, say=said.append).env_steps == 60
            assert len(said) == 1
            assert said[0].endswith("going back to the one before")
            console = quiet()
            assert checkpoint.latest(resume(copy, 100, console).checkpoints, pytest.fail).counters.env_steps == 100
            assert "going back to the one before" in console.file.getvalue()
        else:
            answer = ask(["resume", str(copy), "--steps", "100"])
            assert answer.is_complaint, answer
            assert str(copy) in answer.err
        shutil.rmtree(copy)
        file.write_bytes(original)
    figure(
        f"corrupted files: {kind}",
        f"{count - unchanged} of {count - unchanged} refused"
        + (", resumed from the checkpoint before" if in_checkpoint else "")
        + (f" ({unchanged} more meant the same)" if unchanged else ""),
    )


class Payload:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch was-run",)


def pickled() -> bytes:
    return pickle.dumps({"policy": Payload()})


def torch_file() -> bytes:
    out = io.BytesIO()
    torch.save({"policy": Payload()}, out)
    return out.getvalue()


def sb3_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("data", json.dumps({"policy_class": {":serialized:": "gASV"}}))
        archive.writestr("policy.pth", torch_file())
    return out.getvalue()


@pytest.mark.parametrize("hostile", [pickled, torch_file, sb3_zip])
def test_what_could_run_code_is_never_run(
    hostile: Callable[[], bytes], run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the name of the weights, with sums and seal that are right."""
    monkeypatch.chdir(tmp_path)
    for folder in checkpoint.scan(run.checkpoints):
        data = hostile()
        (folder / checkpoint.TENSORS).write_bytes(data)
        about = unsealed(json.loads((folder / checkpoint.MANIFEST).read_text()), "")
        about["files"][checkpoint.TENSORS] = {"sha256": checkpoint.hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        (folder / checkpoint.MANIFEST).write_bytes(sealed(about))
    for command in (["resume", str(run.path), "--steps", "200"], ["evaluate", str(run.path), "--out", "out"]):
        assert quickstudy.main(command) == 2
    assert not (tmp_path / "was-run").exists()
    assert not (tmp_path / "out").exists()


PARTS = ("config.json", "manifest.json", "progress.jsonl", "tensorboard", "checkpoints", LOCK)


@pytest.mark.parametrize("part", PARTS)
def test_no_link_leads_out_of_a_run(part: str, run: RunDirectory, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (run.path / LOCK).touch()  # as a process that was killed leaves it
    shutil.move(run.path / part, outside)
    before = {path: path.read_bytes() for path in (outside, *outside.rglob("*")) if path.is_file()}
    (run.path / part).symlink_to(outside)
    assert quickstudy.main(["resume", str(run.path), "--steps", "200"]) == 2
    assert {path: path.read_bytes() for path in (outside, *outside.rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize("name", [".config.json.unfinished", ".progress.jsonl.unfinished"])
def test_a_link_laid_where_a_file_will_be_written_is_not_followed(name: str, run: RunDirectory, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (run.path / name).symlink_to(outside)
    (run.checkpoints / ".unfinished-iteration-00000005").symlink_to(tmp_path)
    resume(run.path, 100, quiet())
    assert outside.read_text() == "mine"
    assert not list(run.path.rglob(".*unfinished*"))


def test_a_checkpoint_that_names_other_files_reads_none_of_them(run: RunDirectory, tmp_path: Path) -> None:
    last = checkpoint.scan(run.checkpoints)[-1]
    about = unsealed(json.loads((last / checkpoint.MANIFEST).read_text()), "")
    about["files"]["../../../secret"] = about["files"].pop(checkpoint.TENSORS)
    (last / checkpoint.MANIFEST).write_bytes(sealed(about))
    with pytest.raises(UserError, match=r"manifest\.json is not one"):
        checkpoint.load(last)
