"""The `terrain-planar` family: a planar runner on ground that can be passed in one direction only.

The surface (slope, stairs, rough ground, waves) is felt at the next footfall; which way is open is not: the other way
ends at a wall a metre or two off, and the ground looks the same on both sides. A robot that has run here before knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, get_args

import mujoco
import numpy as np

import assets
from envs.surfaces import START_X, SURFACE_KINDS, SurfaceKind, surface_height
from envs.task import Parameter, Simulation, Task, TaskError, TaskFamily, choice, uniform

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

TRAIN_SURFACES: tuple[SurfaceKind, ...] = ("flat", "slope-up", "slope-down", "stairs", "rough", "waves")
OOD_SURFACES: tuple[SurfaceKind, ...] = ("slope-up", "slope-down", "stairs", "rough", "waves", "stones")
SLOPES = ("slope-up", "slope-down")

# metres of relief: a stair's height, crest to trough of waves and rough ground, depth of the joints between stones
TRAIN_RELIEF = {"stairs": (0.02, 0.08), "rough": (0.04, 0.14), "waves": (0.05, 0.16)}
OOD_RELIEF = {"stairs": (0.09, 0.13), "rough": (0.16, 0.24), "waves": (0.18, 0.26), "stones": (0.06, 0.16)}

HALF_TRACK = 22.0  # m of ground on either side of the start
APRON = 1.1  # m of level ground on either side of the start, more than the robot's half length
STAND_HEIGHT = 0.62  # m from the ground to the torso of the robot on its feet
SPEED_CAP = 2.5  # m/s in the open direction that earns the full progress reward
SUCCESS_DISTANCE = 5.0  # m in the open direction
JOINT_SPEED_SCALE = 12.0  # rad/s
DROP_HEIGHT = 0.01  # m, clearance of the feet at the start
GROUND_SEEDS = 1_000_000

# An open-loop gallop towards +x: each torque is offset + amplitude * sin(2 pi GAIT_HERTZ t + phase). Found by the
# cross-entropy method over flat ground, stairs and rough ground; towards -x the two legs trade places.
GAIT_HERTZ = 2.84
GAIT_AMPLITUDE = np.array([1.66, 0.24, 1.18, 0.35, 0.47, 0.81])
GAIT_PHASE = np.array([-0.95, -1.17, -1.53, -1.23, -1.81, 0.79])  # rad
GAIT_OFFSET = np.array([-0.07, 0.11, -0.76, 0.37, 0.2, -0.33])


@dataclass(frozen=True)
class PlanarTerrainTask(Task):
    """surface: what the ground is; slope_rad counts on slopes only, relief_m on stairs, rough ground, waves and stones,
    ground_seed (which bumps, which stones) on rough ground and stones.

    friction: of the ground. open_direction: the way that can be passed, `forward` is +x. wall_distance_m: from the
    start to the wall that closes the other way.
    """

    surface: SurfaceKind
    slope_rad: float
    relief_m: float
    ground_seed: int
    friction: float
    open_direction: Direction
    wall_distance_m: float


class PlanarTerrainFamily(TaskFamily[PlanarTerrainTask]):
    """Reward of a step: `progress` = speed in the open direction over `SPEED_CAP`, in [-1, 1]; `control` in [-0.05, 0];
    `upright` in [0, 0.1]. Success: `SUCCESS_DISTANCE` covered in the open direction and not upside down."""

    name = "terrain-planar"
    version = "1"
    task_type = PlanarTerrainTask
    parameters = (
        Parameter("surface", "", "what the ground is", TRAIN_SURFACES, OOD_SURFACES),
        Parameter("slope_rad", "rad", "steepness of the slopes", (0.03, 0.15), ((0.18, 0.26),)),
        Parameter("relief_m", "m", "height of stairs, bumps, waves; depth of joints", (0.02, 0.16), ((0.06, 0.26),)),
        Parameter("ground_seed", "", "which bumps or stones", (0, GROUND_SEEDS), ((0, GROUND_SEEDS),)),
        Parameter("friction", "", "of the ground", (0.6, 1.2), ((0.4, 0.6),)),
        Parameter("open_direction", "", "the way that can be passed", DIRECTIONS, DIRECTIONS),
        Parameter("wall_distance_m", "m", "from the start to the wall", (1.2, 2.0), ((2.0, 3.0),)),
    )
    horizon = 100
    timestep = 0.01
    frame_skip = 5
    observation_size = 19
    action_size = 6
    reset_noise_size = 17
    reward_terms = ("progress", "control", "upright")
    feature_size = len(SURFACE_KINDS) + 5

    _by_name: ClassVar[dict[str, Parameter]] = {parameter.name: parameter for parameter in parameters}

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, ood: bool) -> PlanarTerrainTask:
        def number(name: str) -> float:
            parameter = self._by_name[name]
            intervals: Any = parameter.ood if ood else (parameter.train,)
            return uniform(rng, *intervals)

        surface: Any = choice(rng, OOD_SURFACES if ood else TRAIN_SURFACES)
        relief = (OOD_RELIEF if ood else TRAIN_RELIEF).get(surface)
        direction: Any = choice(rng, DIRECTIONS)
        return PlanarTerrainTask(
            surface=surface,
            slope_rad=number("slope_rad") if surface in SLOPES else 0.0,
            relief_m=uniform(rng, relief) if relief else 0.0,
            ground_seed=int(rng.integers(GROUND_SEEDS)) if surface in ("rough", "stones") else 0,
            friction=number("friction"),
            open_direction=direction,
            wall_distance_m=number("wall_distance_m"),
        )

    def validate(self, task: PlanarTerrainTask) -> None:
        bounds = {
            "slope_rad": (0.0, 0.6),
            "relief_m": (0.0, 0.6),
            "ground_seed": (0, 2**31),
            "friction": (0.01, 5.0),
            "wall_distance_m": (1.0, 15.0),
        }
        for name, (low, high) in bounds.items():
            value = getattr(task, name)
            if not low <= value <= high:
                raise TaskError(f"{self.name} task, parameter '{name}' must be from {low:g} to {high:g}, got {value:g}")

    def features(self, task: PlanarTerrainTask) -> np.ndarray:
        kinds = [float(task.surface == kind) for kind in SURFACE_KINDS]
        sign = _sign(task)
        numbers = [
            task.slope_rad / 0.15,
            task.relief_m / 0.15,
            (task.friction - 0.9) / 0.3,
            sign,
            sign * (task.wall_distance_m - 1.6) / 0.4,
        ]
        return np.array(kinds + numbers, dtype=np.float32)

    # -- physics -------------------------------------------------------------------------------------------------------

    def model(self, task: PlanarTerrainTask, visual: bool = False) -> mujoco.MjModel:
        spec = mujoco.MjSpec.from_string(_runner_xml())
        field = spec.hfield("ground")
        x = np.linspace(-HALF_TRACK, HALF_TRACK, field.ncol)
        height = ground_height(task, x)
        low, span = float(height.min()), max(float(np.ptp(height)), 0.01)
        field.size = [HALF_TRACK, field.size[1], span, 1.0]
        ground = spec.geom("ground")
        ground.pos = [0.0, 0.0, low]
        wall = spec.geom("wall")
        wall_x = -_sign(task) * (task.wall_distance_m + wall.size[0])
        wall.pos = [wall_x, 0.0, float(ground_height(task, np.array([wall_x]))[0]) + 0.5]
        for geom in (ground, wall):
            geom.friction = [task.friction, 0.005, 0.0001]
        if visual:
            _decorate(spec)
        model = spec.compile()
        model.hfield_data[:] = np.tile((height - low) / span, field.nrow)
        return model

    def constants(self, task: PlanarTerrainTask, model: mujoco.MjModel) -> dict[str, np.ndarray | float]:
        return {"sign": _sign(task)}

    def reset(self, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        spread = 2.0 * noise - 1.0
        sim.qpos[ids] = 0.0
        sim.qpos[ids, 1] = STAND_HEIGHT + DROP_HEIGHT + 0.02 * noise[:, 0]
        sim.qpos[ids, 2] = 0.03 * spread[:, 1]
        sim.qpos[ids, 3:] = 0.08 * spread[:, 2:8]
        sim.qvel[ids] = 0.1 * spread[:, 8:17]
        sim.ctrl[ids] = 0.0
        sim.memory("x_before")[ids] = 0.0

    def control(self, sim: Simulation, action: np.ndarray) -> None:
        sim.memory("x_before")[:] = sim.qpos[:, 0]
        sim.ctrl[:] = action

    def observe(self, sim: Simulation) -> np.ndarray:
        pitch = sim.qpos[:, 2]
        parts = (
            np.sin(pitch)[:, None],
            np.cos(pitch)[:, None],
            sim.qpos[:, 3:],
            np.clip(sim.qvel[:, :2] / 2.0, -5.0, 5.0),
            np.clip(sim.qvel[:, 2:3] / 5.0, -5.0, 5.0),
            np.clip(sim.qvel[:, 3:] / JOINT_SPEED_SCALE, -5.0, 5.0),
            np.clip(sim.qpos[:, :1] / 3.0, -5.0, 5.0),
            1.0 - sim.step[:, None] / self.horizon,
        )
        return np.concatenate(parts, axis=1)

    def reward(self, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        speed = sim.constants["sign"] * (sim.qpos[:, 0] - sim.memory("x_before")) / self.control_seconds
        return {
            "progress": np.clip(speed / SPEED_CAP, -1.0, 1.0),
            "control": -0.05 * np.square(action).mean(axis=1),
            "upright": 0.1 * np.clip(np.cos(sim.qpos[:, 2]), 0.0, 1.0),
        }

    def success(self, sim: Simulation) -> np.ndarray:
        far_enough = sim.constants["sign"] * sim.qpos[:, 0] >= SUCCESS_DISTANCE
        return far_enough & (np.cos(sim.qpos[:, 2]) > 0.0)

    def scripted(self, sim: Simulation) -> np.ndarray:
        seconds = sim.step[:, None] * self.control_seconds
        torque = GAIT_OFFSET + GAIT_AMPLITUDE * np.sin(2.0 * np.pi * GAIT_HERTZ * seconds + GAIT_PHASE)
        mirrored = np.roll(torque, 3, axis=1)
        return np.clip(np.where(sim.constants["sign"][:, None] > 0, torque, mirrored), -1.0, 1.0)


def ground_height(task: PlanarTerrainTask, x: np.ndarray) -> np.ndarray:
    """Height in metres over positions x (metres): level within `APRON` of the start, the same on both sides."""
    distance = np.abs(x) - APRON + START_X
    return surface_height(task.surface, distance, np.zeros_like(x), task.slope_rad, task.relief_m, task.ground_seed)


def _sign(task: PlanarTerrainTask) -> float:
    return 1.0 if task.open_direction == "forward" else -1.0


@cache
def _runner_xml() -> str:
    return assets.path("runner.xml").read_text()


def _decorate(spec: mujoco.MjSpec) -> None:
    """Sky, grid and light for pictures; nothing that the physics would notice."""
    texture, two_d = mujoco.mjtTexture, int(mujoco.mjtTextureRole.mjTEXROLE_RGB)
    gradient = int(mujoco.mjtBuiltin.mjBUILTIN_GRADIENT)
    checker = int(mujoco.mjtBuiltin.mjBUILTIN_CHECKER)
    sky = {"rgb1": [0.42, 0.64, 0.86], "rgb2": [0.95, 0.96, 0.96], "width": 256, "height": 1536}
    spec.add_texture(name="sky", type=int(texture.mjTEXTURE_SKYBOX), builtin=gradient, **sky)
    grid = {"rgb1": [0.70, 0.76, 0.80], "rgb2": [0.60, 0.67, 0.73], "markrgb": [0.93, 0.95, 0.97]}
    edge = int(mujoco.mjtMark.mjMARK_EDGE)
    spec.add_texture(
        name="grid", type=int(texture.mjTEXTURE_2D), builtin=checker, mark=edge, width=512, height=512, **grid
    )
    material = spec.add_material(name="grid", texuniform=True, texrepeat=[1.0, 1.0], reflectance=0.0, specular=0.1)
    material.textures[two_d] = "grid"
    ground = spec.geom("ground")
    ground.material = "grid"
    ground.rgba = [1.0, 1.0, 1.0, 1.0]
    spec.worldbody.add_light(
        name="sun",
        type=int(mujoco.mjtLightType.mjLIGHT_DIRECTIONAL),
        pos=[0.0, -2.0, 6.0],
        dir=[0.25, 0.55, -1.0],
        diffuse=[0.62, 0.59, 0.54],
        specular=[0.25, 0.25, 0.25],
        castshadow=True,
    )
