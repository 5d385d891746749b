"""Checkpoints: tensors as safetensors, counters as JSON, and a manifest with the SHA-256 of both.

    checkpoints/iteration-00000120/
        tensors.safetensors     Learner.state(): weights, optimiser moments
        counters.json           iteration, environment steps, seconds, ...
        manifest.json           SHA-256 and size of the two files, and how the generators are derived

A checkpoint is written into a folder beside its own, flushed to the disk and renamed, so a folder of that name is whole
or not there. The manifest is sealed. Nothing is ever unpickled, and no symbolic link is followed.
"""

from __future__ import annotations

import hashlib
import json
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

from agents.finite import first_not_finite
from envs.errors import UserError
from training.files import SEAL, cannot_write, flush_folder, read_bytes, refuse_link, sealed, unsealed, write_durably

FORMAT = 2
UNSEALED_FORMAT = 1  # still read: its manifest has no seal
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
    """Episodes that a diverged simulation or a non-finite number ended."""
    evaluation_steps: int = 0
    """Environment steps taken by held-out evaluation; not part of the training budget."""
    skipped: int = 0
    """Updates that were not made, because they would have left numbers that are not finite."""
    skipped_in_a_row: int = 0
    """Of these, the ones since the last update that was made."""


@dataclass(frozen=True)
class Checkpoint:
    """What `load` read: `tensors` go to `Learner.load_state`."""

    path: Path
    tensors: dict[str, Tensor]
    counters: Counters


def save(folder: Path, tensors: Mapping[str, Tensor], counters: Counters, generators: Mapping[str, Any]) -> Path:
    """Write the checkpoint of `counters.iteration` into `folder` and return its path.

    Raises `CheckpointError` where it cannot be written, with the path and the bytes; nothing is left of it then.
    """
    refuse_link(folder)
    if (name := first_not_finite(tensors)) is not None:
        raise ValueError(f"{name} is not finite: such a checkpoint would be of no use")
    files = {
        TENSORS: safetensors.torch.save({name: _own(tensor) for name, tensor in tensors.items()}),
        COUNTERS: (json.dumps(asdict(counters), indent=2) + "\n").encode(),
    }
    about = {
        "format": FORMAT,
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
        },
        "generators": generators,
    }
    files[MANIFEST] = sealed(about)
    path = folder / f"iteration-{counters.iteration:08d}"
    try:
        folder.mkdir(exist_ok=True)
        _clear(folder)
        try:
            _write(path, files)
        except BaseException:
            _clear(folder)
            raise
    except OSError as error:
        size = sum(map(len, files.values()))
        raise CheckpointError(f"{cannot_write(path, size, error)}; earlier checkpoints stay") from None
    return path


def _write(path: Path, files: Mapping[str, bytes]) -> None:
    unfinished = path.with_name(f"{UNFINISHED}{path.name}")
    unfinished.mkdir()
    for name, data in files.items():
        write_durably(unfinished / name, data)
    flush_folder(unfinished)
    if path.exists():  # a damaged one that the run went back behind
        path.rename(path.with_name(f"{UNFINISHED}replaced"))
    unfinished.rename(path)
    flush_folder(path.parent)
    _clear(path.parent)


def _clear(folder: Path) -> None:
    """Remove what writing has left, now or before a crash."""
    for leftover in folder.glob(f"{UNFINISHED}*"):
        if leftover.is_symlink():
            leftover.unlink()
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def load(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises `CheckpointError` where anything is missing, altered, cut short or a link."""
    try:
        return _load(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {Path(error.filename).name} is missing") from None
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise CheckpointError(f"checkpoint {path} is damaged: {COUNTERS} does not hold counters") from None
    except safetensors.SafetensorError:
        raise CheckpointError(f"checkpoint {path} is damaged: {TENSORS} does not hold tensors") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"checkpoint {path} is damaged: {MANIFEST} is not one") from None


def _load(path: Path) -> Checkpoint:
    for part in (path, *(path / name for name in (MANIFEST, TENSORS, COUNTERS))):
        refuse_link(part)
    written = json.loads(read_bytes(path / MANIFEST))
    try:
        about = unsealed(written, MANIFEST)
    except UserError:
        raise CheckpointError(f"checkpoint {path} is damaged: {MANIFEST} does not match its {SEAL}") from None
    if about["format"] not in (FORMAT, UNSEALED_FORMAT):
        raise CheckpointError(f"checkpoint {path} has format {about['format']}; this version reads {FORMAT}")
    if about["format"] == FORMAT and SEAL not in written:
        raise CheckpointError(f"checkpoint {path} is damaged: {MANIFEST} has lost its {SEAL}")
    data = {name: _verified(path / name, about["files"][name]) for name in (TENSORS, COUNTERS)}
    counters = TypeAdapter(Counters).validate_json(data[COUNTERS])
    if path.name != f"iteration-{counters.iteration:08d}":
        raise CheckpointError(f"checkpoint {path} is that of iteration {counters.iteration}: give it back its name")
    tensors = safetensors.torch.load(data[TENSORS])
    if (name := first_not_finite(tensors)) is not None:
        raise CheckpointError(f"checkpoint {path} is damaged: {name} is not finite")
    return Checkpoint(path, tensors, counters)


def scan(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first, whole or not."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def latest(folder: Path, say: Callable[[str], None]) -> Checkpoint:
    """The last good checkpoint; `say` is told of each damaged one passed over. Raises `CheckpointError` without any."""
    refuse_link(folder)
    for path in reversed(scan(folder)):
        try:
            return load(path)
        except UserError as error:
            say(f"{error}; going back to the one before")
    raise CheckpointError(f"no readable checkpoint in {folder}")


def prune(folder: Path, keep: int) -> None:
    """Delete all but the last `keep` checkpoints, as far as that can be done."""
    for path in scan(folder)[:-keep]:
        shutil.rmtree(path, ignore_errors=True)


def _own(tensor: Tensor) -> Tensor:
    """A copy in memory of its own and in order, as safetensors wants it."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _verified(path: Path, expected: Mapping[str, Any]) -> bytes:
    data = read_bytes(path)
    if len(data) != expected["bytes"]:
        raise CheckpointError(
            f"checkpoint {path.parent} is damaged: {path.name} has {len(data)} of {expected['bytes']} bytes"
        )
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise CheckpointError(f"checkpoint {path.parent} is damaged: {path.name} does not match its SHA-256")
    return data
