"""Half-cheetahs of the meta-RL literature: run at a speed, or in a direction, that nothing but the reward tells.

Two forms, on two scales of return, never to be mixed in one table. `cheetah-vel-2017` and `cheetah-dir-2017` are those
of the MAML paper (arXiv 1703.03400): 100 decisions a second, episodes of 2 s. `cheetah-vel` and `cheetah-dir` are those
of the later literature (ProMP, arXiv 1810.06784; PEARL, arXiv 1903.08254): 20 decisions a second, episodes of 10 s.

The robot is gymnasium's `half_cheetah.xml`, unchanged. Observations are what was published: positions without x,
velocities, and where the robot is: its centre of mass in the 2017 form, its torso in the later one. Angular velocities
alone are in units of 10 rad/s: at ten times the rest they drowned it, and learning took several times as many steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, get_args

import mujoco
import numpy as np

from envs.locomotion import OBSERVED_TURN, GoalVelocityTask, LocomotionFamily, VelocityFamily, control_cost, normal
from envs.task import Parameter, Simulation, Task, choice, uniform

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

FRICTION = 0.4  # of gymnasium's file
CONTROL_WEIGHT = 0.05  # of |a|^2
REST_HEIGHT = 0.7  # m, of the torso where qpos is zero
JOINTS = 9


@dataclass(frozen=True)
class CheetahDirTask(Task):
    """direction: to run in, `forward` is +x. friction: of the ground and the robot."""

    direction: Direction
    friction: float


T = TypeVar("T", bound=Task)


class _CheetahFamily(LocomotionFamily[T]):
    """What all half-cheetahs share, in the later form."""

    file = "half_cheetah.xml"
    friction = FRICTION
    axes = 1
    eye = (0.0, -3.6, 0.9)
    observation_size = 20
    action_size = 6
    reset_noise_size = JOINTS + 10
    reward_terms = ("velocity", "control")

    def reset(self, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        """Positions uniform within 0.1 of rest, velocities normal with 0.1, as gymnasium resets its half-cheetah."""
        sim.qpos[ids] = 0.2 * noise[:, :JOINTS] - 0.1
        sim.qvel[ids] = 0.1 * normal(noise[:, JOINTS:])[:, :JOINTS]
        self.start(sim, ids)

    def observe(self, sim: Simulation) -> np.ndarray:
        observation = np.zeros((sim.size, self.observation_size), dtype=np.float32)
        observation[:, :8] = sim.qpos[:, 1:]
        observation[:, 8:10] = sim.qvel[:, :2]
        observation[:, 10:17] = OBSERVED_TURN * sim.qvel[:, 2:]
        observation[:, 17], observation[:, 19] = self.place(sim)
        return observation

    def place(self, sim: Simulation) -> tuple[np.ndarray, np.ndarray]:
        """[N] x and [N] z, in metres, of what the observation ends with; y is 0."""
        return sim.qpos[:, 0], sim.qpos[:, 1] + REST_HEIGHT

    def reward(self, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        return {"velocity": self.velocity_reward(sim), "control": control_cost(action, CONTROL_WEIGHT)}


class _DirectionFamily(_CheetahFamily[CheetahDirTask]):
    """Run forward or backward. These two tasks are all there are, so `train` and `test` share them."""

    task_type = CheetahDirTask
    splits_share_tasks = True
    parameters = (
        Parameter("direction", "", "to run in", DIRECTIONS, DIRECTIONS),
        Parameter("friction", "", "of the ground and the robot", (FRICTION, FRICTION), ((0.15, 0.3),)),
    )
    feature_size = 2
    success_distance: ClassVar[float]  # m in the task's direction

    def draw(self, rng: np.random.Generator, ood: bool) -> CheetahDirTask:
        direction: Any = choice(rng, DIRECTIONS)
        slippery: Any = self.parameters[1].ood
        return CheetahDirTask(direction, uniform(rng, *slippery) if ood else FRICTION)

    def validate(self, task: CheetahDirTask) -> None:
        self.check_friction(task.friction)

    def features(self, task: CheetahDirTask) -> np.ndarray:
        return np.array([_sign(task), (task.friction - FRICTION) / 0.2], dtype=np.float32)

    def constants(self, task: CheetahDirTask, model: mujoco.MjModel) -> dict[str, np.ndarray | float]:
        return {"sign": _sign(task)}

    def marks(self, task: CheetahDirTask) -> tuple[float, float]:
        return (0.0 if task.direction == "forward" else np.pi), 1.0

    def velocity_reward(self, sim: Simulation) -> np.ndarray:
        return self.bounded(sim.constants["sign"] * self.speed(sim))

    def success(self, sim: Simulation) -> np.ndarray:
        far_enough: np.ndarray = sim.constants["sign"] * self.covered(sim)[:, 0] >= self.success_distance
        return far_enough


class _Form2017(_CheetahFamily[T]):
    """The 2017 form: one physics step a decision, the robot's centre of mass instead of its torso, other noise."""

    frame_skip = 1
    reset_noise_size = 2 * JOINTS

    def reset(self, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        """Positions normal with 0.01 about rest, velocities normal with 0.1, as rllab resets its robots."""
        spread = normal(noise)
        sim.qpos[ids] = 0.01 * spread[:, :JOINTS]
        sim.qvel[ids] = 0.1 * spread[:, JOINTS:]
        self.start(sim, ids)

    def place(self, sim: Simulation) -> tuple[np.ndarray, np.ndarray]:
        arm_x, arm_z = _arms(sim)
        return sim.qpos[:, 0] + arm_x.sum(axis=0), sim.qpos[:, 1] + REST_HEIGHT + arm_z.sum(axis=0)

    def speed(self, sim: Simulation) -> np.ndarray:
        """[N] m/s along x of the centre of mass at the end of the step."""
        _, arm_z = _arms(sim)
        speed: np.ndarray = sim.qvel[:, 0] + (_link_sums(sim.qvel) * arm_z).sum(axis=0)
        return speed


class CheetahVelFamily(VelocityFamily, _CheetahFamily[GoalVelocityTask]):
    """Reward of a step: `velocity` = -|v - goal| with the torso's speed v over the step, `control` = -0.05 |a|^2.
    Success: on average over the second half of the episode within 0.2 m/s of the goal."""

    name = "cheetah-vel"
    version = "1"
    parameters = (Parameter("goal_velocity", "m/s", "to run at", (0.0, 3.0), ((3.0, 4.0),)),)


class CheetahDirFamily(_DirectionFamily):
    """Reward of a step: `velocity` = the torso's speed in the direction over the step, `control` = -0.05 |a|^2.
    Success: 20 m covered in the direction. `train` and `test` share the only two tasks; `ood` is slippery ground."""

    name = "cheetah-dir"
    version = "1"
    success_distance = 20.0


class CheetahVel2017Family(VelocityFamily, _Form2017[GoalVelocityTask]):
    """Reward of a step: `velocity` = -|v - goal| with the centre of mass's speed v, `control` = -0.05 |a|^2.
    Success: on average over the second half of the episode within 0.2 m/s of the goal."""

    name = "cheetah-vel-2017"
    version = "1"
    parameters = (Parameter("goal_velocity", "m/s", "to run at", (0.0, 2.0), ((2.0, 3.0),)),)


class CheetahDir2017Family(_Form2017[CheetahDirTask], _DirectionFamily):
    """Reward of a step: `velocity` = the centre of mass's speed in the direction, `control` = -0.05 |a|^2.
    Success: 2 m covered in the direction. `train` and `test` share the only two tasks; `ood` is slippery ground."""

    name = "cheetah-dir-2017"
    version = "1"
    success_distance = 2.0


# The robot is a planar tree of B = 7 links, each turned about y by the sum of its own joint and those that carry it.
# Its centre of mass lies at the torso's slides plus, for every link, a fixed lever turned by the link's angle. Arrays
# over links are [B, N], so that sums over links give the same bits whatever N is.


@cache
def _tree() -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """Each link's parent (-1 for the torso), and the levers [B, 1] along x and z of the link's own frame, m."""
    model = CheetahVelFamily().model(GoalVelocityTask(0.0))
    parents = tuple(int(body) - 1 for body in model.body_parentid[1:])
    lever = model.body_mass[1:, None] * model.body_ipos[1:]
    for link, parent in enumerate(parents[1:], start=1):
        lever[parent] += model.body_subtreemass[link + 1] * model.body_pos[link + 1]
    lever /= model.body_subtreemass[1]
    return parents, lever[:, :1].copy(), lever[:, 2:].copy()


def _link_sums(joints: np.ndarray) -> np.ndarray:
    """[B, N] angles (or rates) of the links from the positions (or velocities) [N, 9] of the joints."""
    parents, _, _ = _tree()
    sums = joints[:, 2:].T.copy()
    for link, parent in enumerate(parents[1:], start=1):
        sums[link] += sums[parent]
    return sums


def _arms(sim: Simulation) -> tuple[np.ndarray, np.ndarray]:
    """[B, N] what each link adds to the centre of mass along x and along z, m.

    Sines are most of what an observation costs, and the reward needs them again: they are kept with their positions.
    """
    kept = sim.scratch
    if "arms_qpos" not in kept or not np.array_equal(kept["arms_qpos"], sim.qpos):
        _, lever_x, lever_z = _tree()
        angle = _link_sums(sim.qpos)
        sine, cosine = np.sin(angle), np.cos(angle)
        kept["arms_qpos"] = sim.qpos.copy()
        kept["arms_x"] = lever_x * cosine + lever_z * sine
        kept["arms_z"] = lever_z * cosine - lever_x * sine
    return kept["arms_x"], kept["arms_z"]


def _sign(task: CheetahDirTask) -> float:
    return 1.0 if task.direction == "forward" else -1.0
