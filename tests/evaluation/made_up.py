"""A made-up evaluation on disk: tables of the right form whose figures are chosen, for tests of what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from envs.families import make_family
from envs.task import Split
from evaluation.protocol import held_out_tasks
from evaluation.summarise import summarise_directory
from evaluation.summary import Protocol, write_protocol
from evaluation.table import EPISODES_FILE, TASKS_FILE, Episode, write_episodes, write_tasks

# agent: (episodes of a round, return before, return reached, episodes that learning takes); ten is a perfect return
AGENTS: dict[str, tuple[int, float, float, float]] = {
    "maml": (10, 2.5, 6.0, 8.0),
    "rl2": (1, 2.5, 7.5, 2.5),
    "ppo": (10, 1.0, 8.5, 150.0),
    "ppo-finetuned": (10, 3.2, 7.0, 60.0),
    "ppo-robust": (0, 3.2, 3.2, 1.0),
    "ppo-oracle": (0, 9.0, 9.0, 1.0),
    "random": (0, 0.5, 0.5, 1.0),
}


def write_evaluation(
    directory: Path,
    families: Mapping[str, Sequence[Split]],
    agents: Sequence[str] = tuple(AGENTS),
    *,
    tasks: int = 12,
    seeds: int = 2,
    episodes: int = 20,
    ppo_episodes: int = 200,
    command: str = "quickstudy benchmark made-up --out results",
) -> None:
    """Write `episodes.csv`, `tasks.json`, `protocol.json` and `summary.json`."""
    rng = np.random.default_rng(0)
    horizon = 60
    rows: list[Episode] = []
    listed = {}
    for family_name, splits in families.items():
        family = make_family(family_name)
        listed[family_name] = {split: held_out_tasks(family, split, tasks, 0) for split in splits}
        for split in splits:
            easy = rng.normal(0.0, 1.0, tasks) - (1.5 if split == "ood" else 0.0)
            for agent in agents:
                size, before, reached, pace = AGENTS[agent]
                last = 0 if size == 0 else ppo_episodes if agent in ("ppo", "ppo-finetuned") else episodes
                for seed in range(seeds):
                    skill = rng.normal(0.0, 0.3)
                    for task in range(tasks):
                        for spent in range(0, last + 1, size or 1):
                            level = before + (reached - before) * (1.0 - np.exp(-spent / pace))
                            value = float(level + 0.4 * easy[task] + skill + rng.normal(0.0, 0.4))
                            roles = ("probe",) if spent == last else ("probe", "adapt")
                            rows += [
                                Episode(
                                    family_name, family.version, split, agent, seed, task, spent, role,  # type: ignore[arg-type]
                                    spent * horizon, value, bool(value + rng.normal(0.0, 0.5) > 5.0),
                                )
                                for role in roles
                            ]  # fmt: skip
    write_episodes(directory / EPISODES_FILE, rows)
    write_tasks(directory / TASKS_FILE, listed)
    protocol = Protocol(
        name="made-up",
        command=command,
        families={name: make_family(name).version for name in families},
        splits=tuple(dict.fromkeys(split for splits in families.values() for split in splits)),
        arms=tuple(agents),
        episodes=episodes,
        probe_episodes=1,
        explore_probes=False,
        ppo_env_steps=ppo_episodes * horizon,
        tasks=tasks,
        task_seed=0,
        seeds=tuple(range(seeds)),
        horizons=dict.fromkeys(families, horizon),
        checkpoints={f"{agent}/{name}/0": f"shipped {agent}" for agent in agents for name in families},
        versions={"quickstudy": "0.1.0", "python": "3.11.2"},
    )
    write_protocol(directory, protocol)
    summarise_directory(directory)
