"""A run is a directory; what is in it, and how a trained agent is taken out of it.

    RUN/
        config.json        the resolved config: `train` of it makes the same run again
        manifest.json      versions, commit, machine, command: what the run was made with
        progress.jsonl     one line an iteration
        tensorboard/       the same figures as event files
        checkpoints/       see `training.checkpoint`

Config and manifest are sealed (see `training.files`), and none of these may be a link. Shipped agents, under
`assets/checkpoints/AGENT/FAMILY`, are runs too.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import assets
from agents.catalogue import agent_class, make_agent
from agents.optimiser_state import is_moment
from envs.errors import UserError, holds_control_characters
from envs.families import make_family
from envs.task import TaskFamily
from training import checkpoint
from training.config import RunConfig, make_run_config, read_config, run_config_from_data
from training.files import LOCK, locked, read_table, refuse_link, replace_file, write_table
from training.provenance import describe_machine, present
from training.streams import stream_seed

MANIFEST = frozenset(
    [
        "started",
        "command",
        "versions",
        "commit",
        "agent",
        "family",
        "family_version",
        "seed",
        "threads",
        "machine",
        "resumed",
        "weights_only",
    ]
)
"""What a manifest may hold: `describe_machine`, who went on with the run, and whether it is exported."""

__all__ = ["LoadedAgent", "RunConfig", "RunDirectory", "export", "load_agent", "make_run_config", "read_config"]


def say_to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


@dataclass(frozen=True)
class RunDirectory:
    """Paths and plain contents of one run."""

    path: Path

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def progress_path(self) -> Path:
        return self.path / "progress.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> RunDirectory:
        """A new run. Raises `UserError` where something is there already or nothing can be written."""
        run = cls(Path(path))
        unfinished = cls(run.path.absolute().with_name(f".{run.path.absolute().name}.unfinished"))
        try:
            if run.config_path.exists():
                raise UserError(
                    f"{path} holds a run already: `quickstudy resume {path}` goes on with it, or use another --out"
                )
            if run.path.is_symlink() or (run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir()))):
                raise UserError(f"{path} exists and is not an empty folder: use another --out")
            shutil.rmtree(unfinished.path, ignore_errors=True)
            unfinished.checkpoints.mkdir(parents=True)
            write_table(unfinished.manifest_path, describe_machine(config))
            write_table(unfinished.config_path, config.to_json())
            unfinished.path.rename(run.path)  # a run is there with its config, or not at all
        except OSError as error:
            raise UserError(f"cannot write a run to {path}: {error.strerror}") from None
        finally:
            shutil.rmtree(unfinished.path, ignore_errors=True)
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run. Raises `UserError` where there is none, or where a part of it is a link."""
        run = cls(Path(path))
        if holds_control_characters(str(path)):  # a terminal would obey them wherever the run is spoken of
            raise UserError(f"{path} holds control characters: rename it")
        if not run.config_path.is_file():
            raise UserError(f"{path} is not a run: it has no config.json")
        for part in (
            run.config_path,
            run.manifest_path,
            run.progress_path,
            run.tensorboard,
            run.checkpoints,
            run.path / LOCK,
        ):
            refuse_link(part)
        return run

    def config(self) -> RunConfig:
        return run_config_from_data(read_table(self.config_path), str(self.config_path))

    def manifest(self) -> dict[str, Any]:
        """Raises `UserError` for one that is damaged; a line that none has could be its seal under a damaged name."""
        manifest = read_table(self.manifest_path)
        if unknown := manifest.keys() - MANIFEST:
            raise UserError(f"{self.manifest_path} is damaged: no manifest has a line '{min(unknown)}'")
        return manifest

    def progress(self) -> list[dict[str, Any]]:
        """One dict an iteration: iteration, env_steps, seconds, and metrics by tag. Unreadable lines are left out."""
        if not self.progress_path.exists():
            return []
        lines = self.progress_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [row for row in map(_progress_row, lines) if row is not None]

    def rewind(self, iteration: int) -> None:
        """Forget the progress of iterations after that one: they will be done again."""
        kept = [row for row in self.progress() if row["iteration"] <= iteration]
        replace_file(self.progress_path, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def extend(self, config: RunConfig) -> None:
        """Replace the config, and note in the manifest what goes on with the run."""
        manifest = self.manifest()
        manifest.setdefault("resumed", []).append(describe_machine(config))
        write_table(self.manifest_path, manifest)
        write_table(self.config_path, config.to_json())

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else trains in this run meanwhile. Raises `UserError` if someone does."""
        return locked(self.path, f"{self.path} is being trained by another process")


@dataclass(frozen=True)
class LoadedAgent:
    """A trained agent, the family it was trained on, and where it came from. env_steps: what its training took."""

    agent: Any
    family: TaskFamily[Any]
    config: RunConfig
    env_steps: int
    path: Path


def build_agent(config: RunConfig, family: TaskFamily[Any], name: str | None = None) -> Any:
    """The agent of a config before any training, by another of its names if asked."""
    kind = agent_class(name or config.agent)
    seed = stream_seed(config.train.seed, "weights")
    return make_agent(kind.name, config.agent_config, family, seed)


def load_agent(
    reference: str | Path, as_name: str | None = None, say: Callable[[str], None] = say_to_stderr
) -> LoadedAgent:
    """The agent of a run directory or of a shipped name such as `maml/grasp`, at its last good checkpoint.

    as_name: load the weights into another arm that shares them (`ppo-finetuned` from a run of `ppo-robust`).
    say: told where a damaged checkpoint had to be passed over. Raises `UserError`.
    """
    run = RunDirectory.open(find_run(reference))
    config = run.config()
    if as_name is not None and agent_class(as_name).config_type is not type(config.agent_config):
        raise UserError(f"{reference} holds a trained '{config.agent}', which cannot be used as '{as_name}'")
    family = make_family(config.family)
    agent = build_agent(config, family, as_name)
    latest = checkpoint.latest(run.checkpoints, say)
    restore(agent, latest)
    return LoadedAgent(agent, family, config, latest.counters.env_steps, run.path)


def restore(agent: Any, latest: checkpoint.Checkpoint) -> None:
    """Load a checkpoint's tensors. Raises `UserError` where they do not fit the agent."""
    try:
        agent.load_state(latest.tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"checkpoint {latest.path} does not fit agent '{agent.name}': {error}") from None


def find_run(reference: str | Path) -> Path:
    """The folder of a run directory or of a shipped name. Raises `UserError`, with the names there are."""
    path = Path(reference)
    if path.exists():
        return path
    shipped = shipped_runs()
    if str(reference) in shipped:
        return shipped[str(reference)]
    names = ", ".join(shipped) or "none"
    raise UserError(f"'{reference}' is neither a run directory nor a shipped agent; shipped agents: {names}")


def shipped_runs() -> dict[str, Path]:
    """{name: folder} of the agents that come with the suite."""
    root = assets.path("checkpoints")
    folders = sorted(config.parent for config in root.rglob("config.json"))
    return {folder.relative_to(root).as_posix(): folder for folder in folders}


def export(run: RunDirectory, destination: Path) -> RunDirectory:
    """Copy what is worth shipping of a run: config, manifest, progress and the weights of its last good checkpoint.

    The optimiser's moments stay behind: they are two thirds of it, and only training needs them. The manifest says so
    (`weights_only`) and keeps no path of this machine. Raises `UserError` where `destination` is taken.
    """
    destination = Path(destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UserError(f"{destination} exists and is not an empty folder")
    last = checkpoint.latest(run.checkpoints, say_to_stderr)
    exported = RunDirectory(destination)
    destination.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor for name, tensor in last.tensors.items() if not is_moment(name)}
    checkpoint.save(exported.checkpoints, weights, last.counters, generators={})
    shutil.copyfile(run.config_path, exported.config_path)
    shutil.copyfile(run.progress_path, exported.progress_path)
    exported.rewind(last.counters.iteration)
    manifest = run.manifest() | {"weights_only": True}
    for entry in (manifest, *manifest.get("resumed", [])):
        entry["command"] = [present(word) for word in entry["command"]]
    write_table(exported.manifest_path, manifest)
    return exported


def _progress_row(line: str) -> dict[str, Any] | None:
    """A line of `progress.jsonl`; None for one that was cut short or damaged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("iteration"), int) else None
