"""PPO's own sweep: how fast `ppo` learns a single task with other settings: `python -m benchmarks.ppo_sweep`.

Settings are chosen on training tasks, never on held-out ones. Each one given is tried for itself, beside the defaults,
on the same tasks from the same initial states. `FAMILY.csv` is the raw table, `FAMILY.json` what it says: the return
averaged over the whole learning curve, which is high for what learns early and for what ends high, and the return and
success in the end. `--agent ppo-finetuned` begins with the weights of a trained `ppo-robust`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from agents.catalogue import make_agent
from agents.ppo import TaskPPOConfig
from benchmarks.record import machine, print_table, run, write_record, write_rows
from benchmarks.settings import agent_config, parse
from envs.errors import UserError
from envs.families import make_family
from envs.task import Split
from evaluation.curves import curves_of
from evaluation.protocol import Budget, adapt_to_tasks, held_out_tasks
from evaluation.table import Episode
from training.config import from_data
from training.run import load_agent

DEFAULTS = "defaults"
SPLIT: Split = "train"
TASK_SEED = 1  # the tasks are no prefix of those that another benchmark samples


@dataclass(frozen=True)
class Sweep:
    """Let PPO learn training tasks one by one, with each of the settings."""

    family: str = "grasp"
    """Family of the tasks."""
    agent: str = "ppo"
    """`ppo`, or `ppo-finetuned`."""
    weights: str = ""
    """Run or shipped agent that `ppo-finetuned` begins with; by default ppo-robust/FAMILY."""
    tasks: int = 4
    """Training tasks, each learnt by a policy of its own."""
    steps: int = 60_000
    """Environment steps on each task."""
    probe_episodes: int = 4
    """Initial states that each probe of the policy starts from."""
    seed: int = 0
    """Of weights and exploration."""
    threads: int = 1
    """Physics threads; the figures do not depend on them."""
    settings: tuple[str, ...] = (
        "learning_rate=0.001",
        "batch_size=128",
        "batch_size=64",
        "episodes_per_update=5",
        "episodes_per_update=20",
        "epochs=20",
        "target_kl=null",
        "initial_log_std=0",
        "entropy_coefficient=0.003",
        "gae_lambda=0.9",
    )
    """What to try: NAME=VALUE of `agents.ppo.TaskPPOConfig`, or several of them with blanks between."""
    out: Path = Path("results/ppo-sweep")
    """Where the table and the figures go."""


def learner(config: Sweep, words: str) -> Any:
    """The agent with the settings in `words`. Raises `UserError`."""
    changes = parse(words.split())
    if config.agent not in ("ppo", "ppo-finetuned"):
        raise UserError(f"agent must be ppo or ppo-finetuned, got '{config.agent}'")
    if config.agent == "ppo":
        chosen = agent_config("ppo", config.family, changes)
        return make_agent("ppo", chosen, make_family(config.family), config.seed)
    weights = config.weights or f"ppo-robust/{config.family}"
    loaded = load_agent(weights, as_name=config.agent)
    if loaded.family.name != config.family:
        raise UserError(f"{weights} was trained on {loaded.family.name}, not on {config.family}: use another --weights")
    if "hidden_sizes" in changes:
        raise UserError(f"the weights of {weights} have their hidden_sizes: leave it out of the settings")
    wanted = {**dataclasses.asdict(loaded.agent.task), **changes}
    loaded.agent.task = from_data(TaskPPOConfig, wanted, f"settings of {config.agent}")
    return loaded.agent


def area(env_steps: np.ndarray, values: np.ndarray) -> float:
    """The mean of a curve over the steps that it spans."""
    return float(np.trapezoid(values, env_steps) / (env_steps[-1] - env_steps[0]))


def figures(rows: list[Episode]) -> dict[str, Any]:
    """What one setting came to, on each task and on average."""
    curves = curves_of(rows)
    steps, returns, success = (of_all[:, 0].T for of_all in (curves.steps, curves.returns, curves.success))  # [T, P]
    tasks = [(area(at, values), values[-1], last[-1]) for at, values, last in zip(steps, returns, success, strict=True)]
    columns = zip(("mean_return", "last_return", "last_success"), zip(*tasks, strict=True), strict=True)
    return {
        name: {"mean": round(float(np.mean(values)), 4), "tasks": [round(float(value), 4) for value in values]}
        for name, values in columns
    }


def sweep(config: Sweep) -> None:
    """Try everything, write the files, print the table. Raises `UserError`."""
    console, where = Console(), machine()
    family = make_family(config.family)
    tasks = held_out_tasks(family, SPLIT, config.tasks, TASK_SEED)
    budget = Budget(0, config.steps, config.probe_episodes, task_seed=TASK_SEED)
    named = {DEFAULTS: "", **{words: words for words in config.settings}}
    learners = {name: learner(config, words) for name, words in named.items()}  # refused before any is tried
    for name, agent in learners.items():
        if not budget.rounds(agent.episodes_per_round, family.horizon):
            least = agent.episodes_per_round * family.horizon
            raise UserError(f"with {name} an update takes {least} steps: give --steps {least} or more")
    table: list[dict[str, Any]] = []
    found = {}
    for number, (name, agent) in enumerate(learners.items(), start=1):
        rows = adapt_to_tasks(
            agent, family, tasks, SPLIT, budget, name=config.agent, seed=config.seed, threads=config.threads
        )
        table += [as_row(name, row) for row in rows if row.role == "probe"]
        found[name] = figures(rows)
        console.print(f"{number}/{len(learners)} {name}: {found[name]['mean_return']['mean']}", highlight=False)
    stem = config.family if config.agent == "ppo" else f"{config.agent}-{config.family}"
    write_rows(config.out / f"{stem}.csv", table)
    write_record(
        config.out / f"{stem}.json", "benchmarks.ppo_sweep", config, where, family_version=family.version, found=found
    )
    print_table(as_table(config, found))


def as_row(settings: str, row: Episode) -> dict[str, Any]:
    """A row of the CSV."""
    return {
        "settings": settings,
        "task": row.task,
        "env_steps": row.env_steps,
        "return": round(row.episode_return, 4),
        "success": int(row.success),
    }


def as_table(config: Sweep, found: dict[str, Any]) -> Table:
    """Best first; the difference is to the defaults, over tasks."""
    table = Table(
        title=f"{config.agent} on {config.tasks} training tasks of {config.family}, {config.steps} steps each"
    )
    for title in ("settings", "mean return", "better on", "return in the end", "success in the end"):
        table.add_column(title)
    usual = np.array(found[DEFAULTS]["mean_return"]["tasks"])
    for name in sorted(found, key=lambda name: -found[name]["mean_return"]["mean"]):
        mean, last, success = (found[name][key] for key in ("mean_return", "last_return", "last_success"))
        better = int((np.array(mean["tasks"]) > usual).sum())
        table.add_row(
            name,
            f"{mean['mean']:.2f}",
            "" if name == DEFAULTS else f"{better} of {len(usual)}",
            f"{last['mean']:.2f}",
            f"{success['mean']:.2f}",
        )
    return table


def main() -> None:
    """The command line."""
    sweep(tyro.cli(Sweep, description=__doc__))


if __name__ == "__main__":
    run(main)
