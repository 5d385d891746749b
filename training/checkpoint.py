"""Checkpoints: tensors as safetensors, counters as JSON, and a manifest with the SHA-256 of both.

    checkpoints/iteration-00000120/
        tensors.safetensors     Learner.state(): weights, optimiser moments
        counters.json           iteration, environment steps, seconds, ...
        manifest.json           SHA-256 and size of the two files, and how the generators are derived

A checkpoint is written into a folder beside its own, flushed to the disk and renamed, so a folder of that name is whole
or not there. Nothing is ever unpickled, and no symbolic link is followed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from envs.errors import UserError

FORMAT = 1
TENSORS, COUNTERS, MANIFEST = "tensors.safetensors", "counters.json", "manifest.json"
NAME = re.compile(r"iteration-(\d{8})")
UNFINISHED = ".unfinished-"


class CheckpointError(UserError):
    """A checkpoint that is damaged, or none where one is needed."""


@dataclass(frozen=True)
class Counters:
    """How far a run is. With the config and the tensors, all that it takes to go on."""

    iteration: int = 0
    """Meta-updates done."""
    env_steps: int = 0
    """Environment steps taken in training."""
    seconds: float = 0.0
    """Time spent training, interruptions apart."""
    faults: int = 0
    """Episodes that a diverged simulation or a non-finite action ended."""
    evaluation_steps: int = 0
    """Environment steps taken by held-out evaluation; not part of the training budget."""


@dataclass(frozen=True)
class Checkpoint:
    """What `load` read: `tensors` go to `Learner.load_state`."""

    path: Path
    tensors: dict[str, Tensor]
    counters: Counters


def save(folder: Path, tensors: Mapping[str, Tensor], counters: Counters, generators: Mapping[str, Any]) -> Path:
    """Write the checkpoint of `counters.iteration` into `folder` and return its path. Raises `CheckpointError`."""
    _refuse_link(folder)
    try:
        return _save(folder, tensors, counters, generators)
    except OSError as error:
        raise CheckpointError(f"cannot write a checkpoint to {folder}: {error.strerror}; earlier ones stay") from None


def _save(folder: Path, tensors: Mapping[str, Tensor], counters: Counters, generators: Mapping[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for leftover in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(leftover)
    path = folder / f"iteration-{counters.iteration:08d}"
    files = {
        TENSORS: safetensors.torch.save({name: _own(tensor) for name, tensor in tensors.items()}),
        COUNTERS: _json(asdict(counters)),
    }
    about = {
        "format": FORMAT,
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
        },
        "generators": generators,
    }
    unfinished = folder / f"{UNFINISHED}{path.name}"
    unfinished.mkdir()
    for name, data in (*files.items(), (MANIFEST, _json(about))):
        write_durably(unfinished / name, data)
    _flush_folder(unfinished)
    if path.exists():  # a damaged one that the run went back behind
        path.rename(folder / f"{UNFINISHED}replaced")
    unfinished.rename(path)
    _flush_folder(folder)
    shutil.rmtree(folder / f"{UNFINISHED}replaced", ignore_errors=True)
    return path


def load(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises `CheckpointError` where anything is missing, altered, cut short or a link."""
    _refuse_link(path)
    try:
        about = json.loads(_read(path / MANIFEST))
        if about["format"] != FORMAT:
            raise CheckpointError(f"checkpoint {path} has format {about['format']}; this version reads {FORMAT}")
        data = {name: _verified(path / name, about["files"][name]) for name in (TENSORS, COUNTERS)}
        counters = TypeAdapter(Counters).validate_json(data[COUNTERS])
        return Checkpoint(path, safetensors.torch.load(data[TENSORS]), counters)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {Path(error.filename).name} is missing") from None
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise CheckpointError(f"checkpoint {path} is damaged: {COUNTERS} does not hold counters") from None
    except safetensors.SafetensorError:
        raise CheckpointError(f"checkpoint {path} is damaged: {TENSORS} does not hold tensors") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"checkpoint {path} is damaged: {MANIFEST} is not one") from None


def scan(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first, whole or not."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def latest(folder: Path, say: Callable[[str], None]) -> Checkpoint:
    """The last good checkpoint; `say` is told of each damaged one passed over. Raises `CheckpointError` without any."""
    _refuse_link(folder)
    for path in reversed(scan(folder)):
        try:
            return load(path)
        except CheckpointError as error:
            say(f"{error}; going back to the one before")
    raise CheckpointError(f"no readable checkpoint in {folder}")


def prune(folder: Path, keep: int) -> None:
    """Delete all but the last `keep` checkpoints."""
    for path in scan(folder)[:-keep]:
        shutil.rmtree(path)


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _own(tensor: Tensor) -> Tensor:
    """A copy in memory of its own and in order, as safetensors wants it."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=2) + "\n").encode()


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise CheckpointError(f"{path} is a symbolic link; checkpoints are read from and written to real folders only")


def _read(path: Path) -> bytes:
    _refuse_link(path)
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read()


def _verified(path: Path, expected: Mapping[str, Any]) -> bytes:
    data = _read(path)
    if len(data) != expected["bytes"]:
        raise CheckpointError(
            f"checkpoint {path.parent} is damaged: {path.name} has {len(data)} of {expected['bytes']} bytes"
        )
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise CheckpointError(f"checkpoint {path.parent} is damaged: {path.name} does not match its SHA-256")
    return data
