"""How fast an agent learns, in environment steps and in seconds: `python -m benchmarks.learning train | plot`.

train: one run of `training.train` for each seed. Held-out tasks are adapted to at intervals, as in training: a round of
episodes, an inner step, and again; by default 40 tasks and returns after 0, 1, 2 and 3 updates. Each seed leaves
LABEL-seedN.csv and .json. plot: the curves of all labels, and what they say as a table; see `benchmarks.curves`.

To measure an older version, check it out in another working tree, put this folder there, and give `--out` of this one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from benchmarks.curves import Plot, compare, draw, read_curves, tables
from benchmarks.record import machine, print_table, run, write_record, write_rows
from benchmarks.settings import agent_config, parse
from envs.errors import UserError
from training.config import make_run_config
from training.loop import TrainConfig
from training.train import train


@dataclass(frozen=True)
class Train:
    """Train over a family and record the curve of each seed."""

    label: str
    """What is measured, as `before`: letters, digits, dots and dashes. Files are named after it."""
    agent: str = "maml"
    """Agent to train."""
    family: str = "cheetah-vel-2017"
    """Family to train it on."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of one run each."""
    steps: int = 10_000_000
    """Environment steps of each run."""
    evaluate_every: int = 1_600_000
    """Environment steps between evaluations."""
    evaluate_tasks: int = 40
    """Held-out tasks, the same ones every time."""
    updates: int = 3
    """Adaptations to each of them."""
    threads: int = 0
    """Threads of physics and of updates; 0 for all processors."""
    settings: tuple[str, ...] = ()
    """NAME=VALUE: other settings of the agent than `benchmarks.settings` has."""
    skip_unknown: bool = False
    """Leave out, and say so, settings that this version's agent does not know; otherwise they are refused."""
    runs: Path = Path("runs/learning")
    """Where the run directories go."""
    out: Path = Path("results/learning")
    """Where the curves go."""


def curve(progress: list[dict[str, Any]], updates: int) -> list[dict[str, float | None]]:
    """The rows of the CSV from a run's `progress.jsonl`, one an iteration.

    training_seconds: time within iterations alone, as each one's rate of environment steps has it; evaluation and
    checkpoints, which `wall_seconds` counts, are left out. after_N: return on held-out tasks after N updates, None
    where none was measured.
    """
    rows: list[dict[str, float | None]] = []
    steps, seconds = 0, 0.0
    for line in progress:
        metrics = line["metrics"]
        seconds += (line["env_steps"] - steps) / metrics["time/fps"]
        steps = line["env_steps"]
        rounds = [tag for tag in metrics if re.fullmatch(r"rollout/round_\d+_return", tag)]
        rows.append(
            {
                "iteration": line["iteration"],
                "env_steps": steps,
                "training_seconds": round(seconds, 3),
                "wall_seconds": line["seconds"],
                "first_round": metrics["rollout/round_1_return"],
                "last_round": metrics[f"rollout/round_{len(rounds)}_return"],
                **{f"after_{n}": metrics.get(f"adapt/round_{n + 1}_return") for n in range(updates + 1)},
            }
        )
    return rows


def train_all(config: Train) -> None:
    """Every seed in turn, its files written when it is done. Raises `UserError`."""
    if not re.fullmatch(r"[A-Za-z0-9.-]+", config.label) or re.search(r"-seed\d+$", config.label):
        raise UserError(f"label '{config.label}' must be letters, digits, dots and dashes, and not end in -seedN")
    console = Console()

    def skipped(name: str) -> None:
        console.print(f"{config.agent} has no setting {name} here: left out", markup=False)

    changes = parse(config.settings)
    settings = agent_config(config.agent, config.family, changes, skipped if config.skip_unknown else None)
    for seed in config.seeds:
        where = machine()
        wanted = make_run_config(
            config.agent,
            config.family,
            settings,
            TrainConfig(
                steps=config.steps,
                seed=seed,
                threads=config.threads,
                evaluate_every=config.evaluate_every,
                evaluate_tasks=config.evaluate_tasks,
                evaluate_rounds=config.updates + 1,
                checkpoint_every=config.evaluate_every,
            ),
        )
        name = f"{config.label}-seed{seed}"
        finished = train(wanted, config.runs / name, console)
        write_rows(config.out / f"{name}.csv", curve(finished.progress(), config.updates))
        write_record(config.out / f"{name}.json", "benchmarks.learning", config, where, run=finished.config().to_json())


def plot(config: Plot) -> None:
    """Draw `learning.png`, write `learning.json`, print the tables."""
    where = machine()
    curves = read_curves(config)
    figures = compare(config, curves)
    (config.out / "learning.png").write_bytes(draw(config, curves))
    write_record(config.out / "learning.json", "benchmarks.learning", config, where, **figures)
    for table in tables(config, figures):
        print_table(table)


def main() -> None:
    """One of the two."""
    config: Train | Plot = tyro.cli(Train | Plot, description=__doc__)
    if isinstance(config, Train):
        train_all(config)
    else:
        plot(config)


if __name__ == "__main__":
    run(main)
