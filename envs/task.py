"""What a task is, and what a family of tasks must provide.

Letters used in every shape: K tasks, E episodes (environments) per task, N = K * E environments ordered by task,
T control steps, O observation size, A action size.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_type_hints

import mujoco
import numpy as np
from pydantic import TypeAdapter, ValidationError

from envs.errors import UserError

Split = Literal["train", "test", "ood"]
SPLITS: tuple[Split, ...] = get_args(Split)


class TaskError(UserError):
    """A task or a task file that no simulation could be built from."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a family, with the values that each split draws it from.

    train: (low, high) for a number, or the tuple of names for a choice. The `test` split uses the same values.
    ood: the same for the out-of-distribution split; for a number, one or more (low, high) intervals.
    """

    name: str
    unit: str
    meaning: str
    train: tuple[float, float] | tuple[str, ...]
    ood: tuple[tuple[float, float], ...] | tuple[str, ...]


class Task:
    """Base of every task: a frozen dataclass of plain numbers and names, in physical units.

    A number has one form, whoever gave it: numpy's become Python's, a float32 the shortest decimal that it stands for
    (0.3, not 0.30000001192), a whole number in a float's place a float, -0.0 zero. So equal tasks have equal keys.
    """

    def __post_init__(self) -> None:
        kinds = _field_types(type(self))  # type: ignore[arg-type]  # mypy takes an instance's __hash__ for the class's
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            given = getattr(self, field.name)
            plain = plain_value(given, kinds[field.name])
            if plain is not given:
                object.__setattr__(self, field.name, plain)

    def to_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    @cached_property
    def key(self) -> int:
        """A 64-bit number that depends on the task's values alone: it keys initial states and decides the split."""
        text = json.dumps([type(self).__name__, self.to_json()], sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@cache
def _field_types(task_type: type[Task]) -> dict[str, Any]:
    return get_type_hints(task_type)


def plain_value(value: Any, kind: Any = None) -> Any:
    """The value as Python has it, arrays and lists as tuples; kind: what its field is declared as. See `Task`."""
    if hasattr(value, "__array__") and not isinstance(value, np.generic):
        value = np.asarray(value)[()]  # of no dimension: a number
    if isinstance(value, (np.ndarray, list, tuple)):
        inner = next(iter(get_args(kind)), None)
        entries = tuple(plain_value(entry, inner) for entry in value)
        return value if isinstance(value, tuple) and all(map(operator.is_, entries, value)) else entries
    if isinstance(value, np.floating):
        value = float(str(value)) if value.itemsize < 8 else float(value)
    elif isinstance(value, np.generic):
        value = value.item()
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if type(value) is float and (value or str(value) == "0.0") else value + 0.0  # -0.0 is 0.0
    return int(value) if kind is int and type(value) is float and value.is_integer() else value


@dataclass(frozen=True)
class Simulation:
    """What a family sees of N environments: live views of the physics and of what the batch keeps beside it.

    qpos [N, nq], qvel [N, nv], ctrl [N, nu] are float64 and writable; sensordata [N, ns] is read-only and describes the
    state before the last physics step, after a reset the initial state. tasks has N entries; constants are [N, ...];
    scratch is the family's own.
    """

    tasks: list[Task]
    constants: dict[str, np.ndarray]
    qpos: np.ndarray
    qvel: np.ndarray
    ctrl: np.ndarray
    sensordata: np.ndarray
    step: np.ndarray  # [N] int: control steps taken in the present episode
    scratch: dict[str, np.ndarray]

    @property
    def size(self) -> int:
        return len(self.qpos)

    def memory(self, name: str, *shape: int) -> np.ndarray:
        """The family's own [N, *shape] float array of that name, zero when first asked for."""
        if name not in self.scratch:
            self.scratch[name] = np.zeros((self.size, *shape))
        return self.scratch[name]


T = TypeVar("T", bound=Task)


class TaskFamily(ABC, Generic[T]):
    """A distribution of tasks over one robot, vectorised over the N environments of a `Simulation`.

    Subclasses set the attributes, of the class or (a family with settings of its own) in their constructor, and the
    abstract methods. They keep no state between calls: what an environment remembers within an episode lives in
    `Simulation.scratch`.
    """

    name: str
    version: ClassVar[str]
    task_type: ClassVar[type[Task]]
    parameters: ClassVar[tuple[Parameter, ...]]
    horizon: int  # control steps in an episode
    timestep: ClassVar[float]  # seconds of one physics step
    frame_skip: ClassVar[int]  # physics steps for each call of `control`
    control_repeat: ClassVar[int] = 1  # calls of `control` in one control step (a gait ticks faster than a policy)
    observation_size: int
    observation_limit: ClassVar[float] = 10.0  # what gymnasium's spaces declare, and clip to
    action_size: int
    reset_noise_size: int  # uniform numbers that one reset consumes
    reward_terms: ClassVar[tuple[str, ...]]
    reward_bound: ClassVar[float] = 1.0  # no reward term of a step is larger in magnitude
    feature_size: int  # length of `features(task)`
    camera: ClassVar[str] = "film"  # camera of the model that previews and films use
    splits_share_tasks: ClassVar[bool] = (
        False  # `train` holds all tasks there are (two directions): `test` has them too
    )

    # -- tasks ---------------------------------------------------------------------------------------------------------

    @abstractmethod
    def draw(self, rng: np.random.Generator, ood: bool) -> T:
        """One task from the training ranges, or from outside them. Round numbers to 4 decimals."""

    @abstractmethod
    def validate(self, task: T) -> None:
        """Raise `TaskError` where no simulation could be built from the task's values; what physics allows passes."""

    @abstractmethod
    def features(self, task: T) -> np.ndarray:
        """[feature_size] float32 of order one: everything the task's values say. Only the oracle sees it."""

    def split_of(self, task: T) -> Split:
        """`train` or `test`: a property of the task's values, so the two can never share a task.

        Where `splits_share_tasks`, `sample` does not ask.
        """
        return "test" if task.key % 5 == 0 else "train"

    def sample(self, split: Split, count: int, rng: np.random.Generator) -> list[T]:
        """`count` tasks of a split."""
        if split not in SPLITS:
            raise TaskError(f"unknown split '{split}': use one of {', '.join(SPLITS)}")
        tasks: list[T] = []
        while len(tasks) < count:
            task = self.draw(rng, ood=split == "ood")
            if split == "ood" or self.splits_share_tasks or self.split_of(task) == split:
                tasks.append(task)
        return tasks

    def task_from_json(self, data: Mapping[str, Any]) -> T:
        """The task that `Task.to_json` wrote. Raises `TaskError` for a missing, unknown or impossible value."""
        unknown = set(data) - {field.name for field in dataclasses.fields(self.task_type)}  # type: ignore[arg-type]
        if unknown:
            raise TaskError(f"{self.name} tasks have no parameter '{sorted(unknown)[0]}'")
        try:
            task: Any = TypeAdapter(self.task_type).validate_python(
                {name: plain_value(value) for name, value in data.items()}
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise TaskError(f"{self.name} task, parameter '{where}': {first['msg']}") from None
        for field in dataclasses.fields(task):
            value = getattr(task, field.name)
            if isinstance(value, float) and not np.isfinite(value):
                raise TaskError(f"{self.name} task, parameter '{field.name}' must be finite, got {value}")
        self.validate(task)
        return task

    # -- physics -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def model(self, task: T, visual: bool = False) -> mujoco.MjModel:
        """Compile the task. Every model of a family has the same MjData layout. `visual` adds textures and lights.

        Where the task has no part in the physics, every task may be given one and the same model. Nobody edits a model,
        except a visual one, which is the caller's own.
        """

    @abstractmethod
    def constants(self, task: T, model: mujoco.MjModel) -> dict[str, np.ndarray | float]:
        """Per-task numbers that the methods below need; `Simulation.constants` holds them as [N, ...] arrays."""

    @abstractmethod
    def reset(self, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        """Write the initial `qpos`, `qvel`, `ctrl` and scratch of environments `ids`.

        noise: [len(ids), reset_noise_size] in [0, 1). All the randomness there is: the same noise gives the same state.
        """

    @abstractmethod
    def control(self, sim: Simulation, action: np.ndarray) -> None:
        """Write `sim.ctrl` [N, nu] from `action` [N, A] in [-1, 1]; called `control_repeat` times a control step."""

    @abstractmethod
    def observe(self, sim: Simulation) -> np.ndarray:
        """[N, O] observations, scaled to order one where no publication fixes them; nothing that names the task."""

    @abstractmethod
    def reward(self, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        """{term: [N]} for each of `reward_terms`; the reward is their sum. Each term is bounded."""

    @abstractmethod
    def success(self, sim: Simulation) -> np.ndarray:
        """[N] bool: does the present state count as success? What holds at the last step is the episode's."""

    def terminated(self, sim: Simulation) -> np.ndarray:
        """[N] bool: does the episode end in the present state (fallen, arrived)? By default never."""
        return np.zeros(sim.size, dtype=bool)

    def scripted(self, sim: Simulation) -> np.ndarray:
        """[N, A] actions of a controller that is told the tasks (through `sim.tasks` and `sim.constants`).

        Raises `UserError` where the family has none; `has_scripted` says so beforehand.
        """
        raise UserError(f"{self.name} has no scripted controller")

    @property
    def has_scripted(self) -> bool:
        """Does the family come with a scripted controller?"""
        return type(self).scripted is not TaskFamily.scripted

    @property
    def control_seconds(self) -> float:
        """Seconds of simulated time in one control step."""
        return self.timestep * self.frame_skip * self.control_repeat


def uniform(rng: np.random.Generator, *intervals: tuple[float, float]) -> float:
    """A number from the union of intervals, each as likely as it is long, rounded to 4 decimals."""
    lengths = np.array([high - low for low, high in intervals])
    low, high = intervals[int(rng.choice(len(intervals), p=lengths / lengths.sum()))]
    return round(float(rng.uniform(low, high)), 4)


def choice(rng: np.random.Generator, names: Sequence[str]) -> str:
    """One of the names, all equally likely."""
    return names[int(rng.integers(len(names)))]
