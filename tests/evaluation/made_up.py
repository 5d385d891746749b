"""A made-up evaluation on disk: tables of the right form whose figures are chosen, for tests of what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from envs.families import make_family
from envs.task import Split
from evaluation.presets import LongBudget, is_long
from evaluation.protocol import held_out_tasks, is_probed
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
    "ppo-long": (10, 1.0, 8.5, 150.0),
    "ppo-finetuned-long": (10, 3.2, 7.0, 60.0),
}
HORIZON = 60


def write_evaluation(
    directory: Path,
    families: Mapping[str, Sequence[Split]],
    agents: Sequence[str] = tuple(AGENTS),
    *,
    name: str = "made-up",
    tasks: int = 12,
    seeds: int = 2,
    episodes: int = 20,
    long_episodes: int = 200,
    long_tasks: int = 4,
    levels: Mapping[str, tuple[int, float, float, float]] = AGENTS,
    command: str = "quickstudy benchmark made-up --out results",
) -> None:
    """Write `episodes.csv`, `tasks.json`, `protocol.json` and `summary.json`.

    Long arms have `long_episodes` on the first `long_tasks` of `test`, with one seed.
    """
    rng = np.random.default_rng(0)
    rows: list[Episode] = []
    listed = {}
    for family_name, splits in families.items():
        family = make_family(family_name)
        listed[family_name] = {split: held_out_tasks(family, split, tasks, 0) for split in splits}
        for split in splits:
            easy = rng.normal(0.0, 1.0, tasks) - (1.5 if split == "ood" else 0.0)
            for agent in agents:
                if is_long(agent) and split != "test":
                    continue
                size, before, reached, pace = levels[agent]
                last = 0 if size == 0 else long_episodes if is_long(agent) else episodes
                for seed in range(1 if is_long(agent) else seeds):
                    skill = rng.normal(0.0, 0.3)
                    for task in range(long_tasks if is_long(agent) else tasks):
                        for spent in range(0, last + 1, size or 1):
                            level = before + (reached - before) * (1.0 - np.exp(-spent / pace))
                            value = float(level + 0.4 * easy[task] + skill + rng.normal(0.0, 0.4))
                            probed = size == 0 or is_probed(spent // size, last // size)
                            kept = spent < last and (spent < episodes or is_probed(spent // size + 1, last // size))
                            roles = [*(["probe"] if probed else []), *(["adapt"] if kept else [])]
                            rows += [
                                Episode(
                                    family_name, family.version, split, agent, seed, task, spent, role,  # type: ignore[arg-type]
                                    spent * HORIZON, value, bool(value + rng.normal(0.0, 0.5) > 5.0),
                                )
                                for role in roles
                            ]  # fmt: skip
    write_episodes(directory / EPISODES_FILE, rows)
    write_tasks(directory / TASKS_FILE, listed)
    long = LongBudget(env_steps=long_episodes * HORIZON, tasks=long_tasks)
    protocol = Protocol(
        name=name,
        command=command,
        families={name: make_family(name).version for name in families},
        splits=tuple(dict.fromkeys(split for splits in families.values() for split in splits)),
        arms=tuple(agents),
        episodes=episodes,
        probe_episodes=1,
        explore_probes=False,
        tasks=tasks,
        task_seed=0,
        seeds=tuple(range(seeds)),
        horizons=dict.fromkeys(families, HORIZON),
        checkpoints={f"{agent}/{name}/0": f"shipped {agent}" for agent in agents for name in families},
        versions={"quickstudy": "0.1.0", "python": "3.11.2"},
        long=long if any(is_long(agent) for agent in agents) else None,
    )
    write_protocol(directory, protocol)
    summarise_directory(directory)
