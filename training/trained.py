"""A trained agent: loaded where its run is whole, trained where there is none, trained on where it was interrupted."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from envs.errors import UserError
from training import checkpoint
from training.config import RunConfig
from training.run import LoadedAgent, RunDirectory, load_agent
from training.train import resume, train


def trained(config: RunConfig, path: Path, console: Console) -> LoadedAgent:
    """The agent of the run `path`, after its whole budget; a run that is there keeps the config that it has.

    Raises `UserError` where another agent or family is there, and what training raises.
    """

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if not (path / "config.json").exists():
        say(f"{path}: not there yet, so it is trained")
        train(config, path, console)
        return load_agent(path)
    run = RunDirectory.open(path)
    found = run.config()
    if (found.agent, found.family) != (config.agent, config.family):
        raise UserError(
            f"{path} holds {found.agent} on {found.family}: {config.agent} on {config.family} belongs there"
        )
    if checkpoint.latest(run.checkpoints, say).counters.env_steps < found.train.steps:
        say(f"{path}: its budget is not spent, so it goes on")
        resume(path, console=console)
    return load_agent(path)
