"""What a benchmark measures: its arms, and the presets by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from envs.errors import UserError
from envs.families import make_family
from envs.task import Split


@dataclass(frozen=True)
class Arm:
    """One way of meeting a new task."""

    agent: str
    """Name of the agent that acts."""
    weights: str | None
    """The trained agent whose weights it has; none where nothing is trained before the task is met."""
    learns: bool = True
    """Give it episodes to adapt on; otherwise measure it once, for nothing would change."""
    long: bool = False
    """It has `Preset.long` in place of the common budget."""


ARMS = {
    "maml": Arm("maml", weights="maml"),
    "rl2": Arm("rl2", weights="rl2"),
    "ppo": Arm("ppo", weights=None),
    "ppo-finetuned": Arm("ppo-finetuned", weights="ppo-robust"),
    "ppo-robust": Arm("ppo-robust", weights="ppo-robust", learns=False),
    "ppo-oracle": Arm("ppo-oracle", weights="ppo-oracle", learns=False),
    "random": Arm("random", weights=None, learns=False),
    "ppo-long": Arm("ppo", weights=None, long=True),
    "ppo-finetuned-long": Arm("ppo-finetuned", weights="ppo-robust", long=True),
}
"""The arms by name, in the order in which they are listed. The name is what the table calls an arm."""


USUAL = ("maml", "rl2", "ppo", "ppo-robust", "ppo-oracle", "random")


def is_long(name: str) -> bool:
    """Is that the name of an arm with a budget of its own?"""
    return name in ARMS and ARMS[name].long


@dataclass(frozen=True)
class LongBudget:
    """What arms marked `long` are given, to see what PPO needs at last: many more steps, on fewer tasks."""

    env_steps: int = 1_000_000
    """Steps on each task."""
    tasks: int = 8
    """Tasks of each split, the first of those that the other arms meet."""
    seeds: int = 1
    """Seeds 0 .. seeds - 1."""
    splits: tuple[Split, ...] = ("test",)
    """Splits on which long arms are measured."""

    def __post_init__(self) -> None:
        for field in ("env_steps", "tasks", "seeds"):
            if getattr(self, field) < 1:
                raise UserError(f"{field} of a long budget must be 1 or more, got {getattr(self, field)}")


@dataclass(frozen=True)
class Preset:
    name: str
    """What it is called on the command line."""
    families: tuple[str, ...]
    """Families, each of which is measured on all splits with all arms."""
    splits: tuple[Split, ...] = ("test",)
    """Splits of held-out tasks."""
    arms: tuple[str, ...] = USUAL
    """Names from `ARMS`."""
    seeds: int = 1
    """Seeds 0 .. seeds - 1; an arm that was trained before has as many of them as training runs are shipped."""
    tasks: int = 40
    """Tasks of each split, the same for every arm and seed."""
    episodes: int = 20
    """The common budget: adaptation episodes on each task."""
    probe_episodes: int = 4
    """Initial states that each probe starts from."""
    explore_probes: bool = False
    """Probes sample actions; otherwise they take the policy's mode."""
    long: LongBudget = LongBudget()
    """What arms marked `long` are given instead."""
    task_seed: int = 0
    """Samples the tasks and keys the initial states."""
    film: tuple[str, ...] = ("rl2", "ppo")
    """Arms that a film of each family shows side by side; none for no film."""

    @property
    def command(self) -> str:
        """The words of the command line that ask for it."""
        asked, words = PRESETS.get(self.name, self), [self.name]
        words += ["--families", *self.families] if self.families != asked.families else []
        words += ["--arms", *self.arms] if self.arms != asked.arms else []
        return " ".join(words)

    def narrowed(self, families: Sequence[str] | None, arms: Sequence[str] | None) -> Preset:
        """The same with other families or arms, each once; films are left out where one of their arms is.

        Raises `UserError`.
        """
        families, arms = tuple(dict.fromkeys(families or self.families)), tuple(dict.fromkeys(arms or self.arms))
        for family in families:
            make_family(family)
        return replace(self, families=families, arms=arms, film=self.film if set(self.film) <= set(arms) else ())

    def __post_init__(self) -> None:
        for field in ("seeds", "tasks", "episodes"):
            if getattr(self, field) < 1:
                raise UserError(f"{field} must be 1 or more, got {getattr(self, field)}")
        for arm in (*self.arms, *self.film):
            if arm not in ARMS:
                raise UserError(f"no arm is called '{arm}': there are {', '.join(ARMS)}")
            if arm not in self.arms:
                raise UserError(f"a film can only show arms of the preset: '{arm}' is none of {', '.join(self.arms)}")
        if self.long_arms:
            for field in ("tasks", "seeds"):
                if getattr(self.long, field) > getattr(self, field):
                    there = f"{getattr(self.long, field)} {field}, the preset has {getattr(self, field)}"
                    raise UserError(f"long arms cannot have more than the others: {there}")
            if not set(self.long.splits) <= set(self.splits):
                there = f"{', '.join(self.long.splits)}, the preset has {', '.join(self.splits)}"
                raise UserError(f"long arms can only be measured on splits of the preset: {there}")

    @property
    def long_arms(self) -> tuple[str, ...]:
        """Those of its arms that have a budget of their own."""
        return tuple(arm for arm in self.arms if is_long(arm))


HEADLINE_RUNS = 5
"""Training runs that a headline figure is planned with: with three, an interval over runs is t(2) = 4.3 errors wide."""
EVERYTHING = ("grasp", "terrain", "terrain-planar")

PRESETS = {
    preset.name: preset
    for preset in (
        # Five minutes of two cores that have nothing else to do; `evaluation.expected` says how long any grid takes.
        Preset(
            "demo",
            families=("grasp", "terrain"),
            arms=(*USUAL, "ppo-long"),
            tasks=12,
            long=LongBudget(env_steps=12_000),
        ),
        # One family, about a minute.
        Preset(
            "quick",
            families=("terrain-planar",),
            arms=(*USUAL, "ppo-long"),
            tasks=8,
            episodes=10,
            probe_episodes=2,
            long=LongBudget(env_steps=5_000),
        ),
        # The common budget alone, on enough tasks for intervals that say something: about a quarter of an hour.
        Preset("standard", families=EVERYTHING),
        # Every arm on every family and held-out split, and what PPO comes to in a million steps: that is nearly all the
        # time it takes. Its goals are in `evaluation.goals`.
        Preset("full", families=EVERYTHING, splits=("test", "ood"), arms=tuple(ARMS), seeds=3, episodes=10, film=()),
    )
}


def find_preset(name: str) -> Preset:
    """The preset of that name. Raises `UserError` for a name that is none."""
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(PRESETS)}"
        raise UserError(f"no preset is called '{name}': {hint}")
    return PRESETS[name]
