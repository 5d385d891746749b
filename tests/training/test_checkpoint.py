"""Checkpoints come back whole or not at all."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from envs.errors import UserError
from training import checkpoint
from training.checkpoint import CheckpointError, Counters

STATE = {
    "policy.weight": torch.arange(6.0).reshape(2, 3).T,  # not in the order that safetensors stores
    "optimiser.step": torch.tensor(7),
    "mask": torch.ones(2) > 0,
}


def write(folder: Path, iteration: int = 1) -> Path:
    return checkpoint.save(folder, STATE, Counters(iteration=iteration, env_steps=10 * iteration), {"seed": 0})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The second of two checkpoints."""
    write(tmp_path, 1)
    return write(tmp_path, 2)


def test_what_is_saved_is_loaded(saved):
    loaded = checkpoint.load(saved)
    assert loaded.counters == Counters(iteration=2, env_steps=20)
    assert loaded.tensors.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)


def test_the_manifest_gives_the_sum_of_each_file(saved):
    about = json.loads((saved / checkpoint.MANIFEST).read_text())
    assert about["files"].keys() == {path.name for path in saved.iterdir()} - {checkpoint.MANIFEST}
    for name, file in about["files"].items():
        assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == file["sha256"]
    assert about["generators"] == {"seed": 0}


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def remove(path: Path) -> None:
    path.unlink()


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"format": 1}))


def link_elsewhere(path: Path) -> None:
    outside = path.parent.parent.parent / f"outside-{path.name}"
    shutil.move(path, outside)
    path.symlink_to(outside)


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.COUNTERS, checkpoint.MANIFEST])
@pytest.mark.parametrize("damage", [cut_short, empty, flip_a_bit, remove, pickled, link_elsewhere])
def test_damage_is_refused_in_one_line_and_passed_over(saved, name, damage):
    damage(saved / name)
    with pytest.raises(UserError) as refused:
        checkpoint.load(saved)
    assert "\n" not in str(refused.value)
    assert str(saved) in str(refused.value)
    said: list[str] = []
    assert checkpoint.latest(saved.parent, said.append).counters.iteration == 1
    assert len(said) == 1
    assert said[0].endswith("going back to the one before")


def test_a_linked_checkpoint_or_folder_is_refused(saved, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "checkpoints").symlink_to(saved.parent)
    with pytest.raises(UserError, match="is a symbolic link"):
        checkpoint.latest(elsewhere / "checkpoints", pytest.fail)
    with pytest.raises(UserError, match="is a symbolic link"):
        write(elsewhere / "checkpoints", 3)
    (elsewhere / "iteration-00000009").symlink_to(saved)
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        checkpoint.latest(elsewhere, lambda text: None)


def test_no_checkpoint_at_all_is_said(tmp_path):
    with pytest.raises(CheckpointError, match=f"no readable checkpoint in {tmp_path}"):
        checkpoint.latest(tmp_path, pytest.fail)


def test_a_write_that_fails_leaves_the_last_checkpoint_and_no_half_one(saved, monkeypatch):
    folder = saved.parent

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_durably", full)
        with pytest.raises(
            CheckpointError, match=r"No space left on device, \d+ bytes are free; earlier checkpoints stay"
        ):
            write(folder, 3)
    assert {path.name for path in folder.iterdir()} == {f"iteration-{n:08d}" for n in (1, 2)}
    assert checkpoint.latest(folder, pytest.fail).counters.iteration == 2
    write(folder, 3)
    assert checkpoint.latest(folder, pytest.fail).counters.iteration == 3
    assert {path.name for path in folder.iterdir()} == {f"iteration-{n:08d}" for n in (1, 2, 3)}


def test_a_damaged_checkpoint_is_replaced_by_a_new_one_of_its_iteration(saved):
    cut_short(saved / checkpoint.TENSORS)
    assert checkpoint.load(write(saved.parent, 2)).counters.iteration == 2
    assert {path.name for path in saved.parent.iterdir()} == {"iteration-00000001", "iteration-00000002"}


def test_a_manifest_without_its_seal_is_damaged_but_one_of_the_first_format_has_none(saved):
    manifest = saved / checkpoint.MANIFEST
    table = json.loads(manifest.read_text())
    del table["sha256"]
    manifest.write_text(json.dumps(table))
    with pytest.raises(CheckpointError, match=r"manifest\.json has lost its sha256"):
        checkpoint.load(saved)
    manifest.write_text(json.dumps({**table, "format": 1}))
    assert checkpoint.load(saved).counters.iteration == 2


def test_a_checkpoint_under_another_ones_name_is_refused(saved):
    other = saved.rename(saved.with_name("iteration-00000007"))
    with pytest.raises(CheckpointError, match="is that of iteration 2: give it back its name"):
        checkpoint.load(other)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nothing_that_is_not_finite_is_saved_or_loaded(tmp_path, value):
    tensors = {"policy/0": torch.tensor([1.0, value])}
    with pytest.raises(ValueError, match="policy/0 is not finite"):
        checkpoint.save(tmp_path, tensors, Counters(iteration=1), {})
    assert list(tmp_path.iterdir()) == []


def test_prune_keeps_the_last(tmp_path):
    for iteration in range(5):
        write(tmp_path, iteration)
    checkpoint.prune(tmp_path, 2)
    assert [path.name[-1] for path in checkpoint.scan(tmp_path)] == ["3", "4"]
