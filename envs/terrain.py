"""`terrain`: a blind quadruped on a surface that it feels, before an obstacle whose opening it has to find out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np

from assets import path
from envs.course import (
    COLUMNS,
    FIELD_X,
    FIELD_Y,
    FINISH_X,
    LAYOUTS,
    ROWS,
    Course,
    Ground,
    Layout,
    build_course,
    route_length,
)
from envs.gait import ABDUCTION_LINK, SIDE, Trot, leg_angles
from envs.surfaces import SURFACE_KINDS, SurfaceKind
from envs.task import Parameter, Simulation, Task, TaskError, TaskFamily, choice, uniform
from envs.terrain_scene import add_camera, dress

TROT = Trot()
STAND = TROT.action(np.array([0.0, 0.0, 0.0, 0.0, TROT.neutral[4]]))  # stops and keeps all feet on the ground
CAP_SPEED = 0.8  # m/s along the route that earns the whole of the progress term
FOOT_RADIUS = 0.022
CROUCH = leg_angles(np.stack([np.zeros(4), SIDE * ABDUCTION_LINK, np.full(4, -TROT.height)], axis=-1)).ravel()
SLOPED: tuple[SurfaceKind, ...] = ("slope-up", "slope-down")
RELIEFED: tuple[SurfaceKind, ...] = ("stairs", "rough", "waves", "stones")


@dataclass(frozen=True)
class TerrainTask(Task):
    """A surface and a layout; see `TerrainFamily.parameters` for each field."""

    surface: SurfaceKind
    slope_rad: float
    relief_m: float
    surface_seed: int
    friction: float
    layout: Layout
    obstacle_x_m: float
    gap_y_m: float
    gap_width_m: float
    second_gap_y_m: float


class TerrainFamily(TaskFamily[TerrainTask]):
    """Walk over the surface, through the opening and past the finish line, and be upright there when time is up.

    Actions modulate a trot (`envs/gait.py`): forward speed, sideways speed, turning rate, lift of the feet, step rate;
    zero is a moderate trot straight ahead. The observation is what a robot without eyes has: gravity, velocities and
    joints in the body's frame, the gait's phase, the last action, odometry and the time left.
    """

    name = "terrain"
    version: ClassVar[str] = "2"
    task_type: ClassVar[type[Task]] = TerrainTask
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("surface", "", "kind of ground", SURFACE_KINDS[:-1], SURFACE_KINDS),
        Parameter("slope_rad", "rad", "steepness of a slope, 0 on other surfaces", (0.06, 0.18), ((0.18, 0.21),)),
        Parameter("relief_m", "m", "height of stairs, bumps, waves; 0 elsewhere", (0.02, 0.05), ((0.05, 0.06),)),
        Parameter("surface_seed", "", "which rough ground or stones, 0 elsewhere", (0, 999), ((1000, 1999),)),
        Parameter("friction", "", "sliding friction of the ground", (0.6, 1.2), ((0.5, 0.6), (1.2, 1.5))),
        Parameter("layout", "", "kind of obstacle", LAYOUTS[:-1], LAYOUTS),
        Parameter("obstacle_x_m", "m", "where the obstacle begins", (0.9, 1.2), ((0.8, 0.9), (1.2, 1.3))),
        Parameter("gap_y_m", "m", "middle of the opening", (-1.2, 1.2), ((-1.4, -1.2), (1.2, 1.4))),
        Parameter("gap_width_m", "m", "width of the opening", (0.6, 0.8), ((0.55, 0.6),)),
        Parameter(
            "second_gap_y_m",
            "m",
            "opening of a chicane's second wall, 0 elsewhere",
            (0.0, 0.0),
            ((-0.8, -0.4), (0.4, 0.8)),
        ),
    )
    horizon = 80
    timestep: ClassVar[float] = 0.008
    frame_skip: ClassVar[int] = 2
    control_repeat: ClassVar[int] = 5
    observation_size = 3 + 3 + 3 + 12 + 12 + 2 + 5 + 2 + 2 + 1
    action_size = 5
    reset_noise_size = 2 + 12 + 1
    reward_terms: ClassVar[tuple[str, ...]] = ("progress", "finish", "upright", "effort", "smoothness")
    feature_size = len(SURFACE_KINDS) + len(LAYOUTS) + 7

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, ood: bool) -> TerrainTask:
        ranges = {p.name: p.ood if ood else (p.train,) for p in self.parameters}
        surface: SurfaceKind = choice(rng, SURFACE_KINDS if ood else SURFACE_KINDS[:-1])  # type: ignore[assignment]
        layout: Layout = choice(rng, LAYOUTS if ood else LAYOUTS[:-1])  # type: ignore[assignment]

        def number(name: str, used: bool = True) -> float:
            drawn = uniform(rng, *ranges[name])
            return drawn if used else 0.0

        seed = int(rng.integers(1000)) + 1000 * ood
        chicane = layout == "chicane"
        gap_y = number("gap_y_m")
        return TerrainTask(
            surface=surface,
            slope_rad=number("slope_rad", surface in SLOPED),
            relief_m=number("relief_m", surface in RELIEFED),
            surface_seed=seed if surface in ("rough", "stones") else 0,
            friction=number("friction"),
            layout=layout,
            obstacle_x_m=number("obstacle_x_m"),
            gap_y_m=gap_y,
            gap_width_m=number("gap_width_m"),
            second_gap_y_m=float(np.sign(gap_y)) * abs(number("second_gap_y_m")) if chicane else 0.0,
        )

    def validate(self, task: TerrainTask) -> None:
        def need(good: bool, name: str, what: str) -> None:
            if not good:
                raise TaskError(f"terrain task, parameter '{name}' must be {what}, got {getattr(task, name)}")

        need(task.surface in SURFACE_KINDS, "surface", f"one of {', '.join(SURFACE_KINDS)}")
        need(task.layout in LAYOUTS, "layout", f"one of {', '.join(LAYOUTS)}")
        need(0.0 <= task.slope_rad <= 0.8, "slope_rad", "from 0 to 0.8 rad")
        need(0.0 <= task.relief_m <= 0.3, "relief_m", "from 0 to 0.3 m")
        need(task.surface_seed >= 0, "surface_seed", "0 or more")
        need(0.0 < task.friction <= 5.0, "friction", "above 0 and at most 5")
        need(0.4 <= task.obstacle_x_m <= 1.7, "obstacle_x_m", "from 0.4 to 1.7 m")
        need(0.2 <= task.gap_width_m <= 3.0, "gap_width_m", "from 0.2 to 3 m")
        for name in ("gap_y_m", "second_gap_y_m"):
            need(abs(getattr(task, name)) <= 1.8, name, "from -1.8 to 1.8 m")

    def features(self, task: TerrainTask) -> np.ndarray:
        numbers = (
            task.slope_rad / 0.2,
            task.relief_m / 0.05,
            task.friction,
            task.obstacle_x_m,
            task.gap_y_m,
            task.gap_width_m,
            task.second_gap_y_m,
        )
        kinds = [float(task.surface == kind) for kind in SURFACE_KINDS]
        layouts = [float(task.layout == layout) for layout in LAYOUTS]
        return np.array([*kinds, *layouts, *numbers], dtype=np.float32)

    # -- physics -------------------------------------------------------------------------------------------------------

    def course(self, task: TerrainTask) -> Course:
        """Heights, boxes and openings of a task."""
        ground = Ground(task.surface, task.slope_rad, task.relief_m, task.surface_seed)
        return build_course(ground, task.layout, task.obstacle_x_m, task.gap_y_m, task.gap_width_m, task.second_gap_y_m)

    def model(self, task: TerrainTask, visual: bool = False) -> mujoco.MjModel:
        course = self.course(task)
        spec = mujoco.MjSpec.from_file(str(path("quadruped.xml")))
        spec.option.timestep = self.timestep
        low, high = float(course.heights.min()), float(course.heights.max())
        half = (0.5 * (FIELD_X[1] - FIELD_X[0]), 0.5 * (FIELD_Y[1] - FIELD_Y[0]))
        middle = (0.5 * (FIELD_X[1] + FIELD_X[0]), 0.5 * (FIELD_Y[1] + FIELD_Y[0]))
        spec.add_hfield(
            name="ground", nrow=ROWS, ncol=COLUMNS, size=[*half, high - low, 0.2], userdata=course.heights.ravel()
        )
        ground = {
            "contype": 0,
            "conaffinity": 1,
            "priority": 1,
            "condim": 3,
            "friction": [task.friction, 0.005, 0.0001],
        }
        ground |= {
            "solref": [2.0 * self.timestep, 1.0]
        }  # as stiff as the time step allows: soft ground makes a trot fall
        spec.worldbody.add_geom(
            name="ground", type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname="ground", pos=[*middle, low], **ground
        )
        for slot, box in enumerate(course.boxes):
            turn = [np.cos(0.5 * box.pitch), 0.0, np.sin(0.5 * box.pitch), 0.0]
            spec.worldbody.add_geom(
                name=f"box{slot}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=box.center,
                quat=turn,
                size=box.half_size,
                **ground,
            )
        add_camera(spec)
        if visual:
            dress(spec, course)
        return spec.compile()

    def constants(self, task: TerrainTask, model: mujoco.MjModel) -> dict[str, np.ndarray | float]:
        openings = [[o.start, o.end, o.low, o.high] for o in self.course(task).openings]
        return {
            "openings": np.array(openings),
            "start_height": TROT.height + FOOT_RADIUS,
            "chicane": float(task.layout == "chicane"),
        }

    def reset(self, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        noise = 2.0 * noise - 1.0
        heading = 0.1 * noise[:, 1]
        sim.qpos[ids] = 0.0
        sim.qpos[ids, 1] = 0.1 * noise[:, 0]
        sim.qpos[ids, 2] = sim.constants["start_height"][ids]
        sim.qpos[ids, 3] = np.cos(0.5 * heading)
        sim.qpos[ids, 6] = np.sin(0.5 * heading)
        sim.qpos[ids, 7:] = CROUCH + 0.05 * noise[:, 2:14]
        sim.qvel[ids] = 0.0
        sim.ctrl[ids] = CROUCH
        sim.memory("phase")[ids] = 0.5 * (noise[:, 14] + 1.0)
        sim.memory("command", 5)[ids] = TROT.command(STAND)
        sim.memory("action", 5)[ids] = 0.0
        sim.memory("previous_action", 5)[ids] = 0.0
        sim.memory("start", 2)[ids] = sim.qpos[ids, :2]
        sim.memory("route")[ids] = route_length(sim.qpos[ids, 0], sim.qpos[ids, 1], sim.constants["openings"][ids])

    def control(self, sim: Simulation, action: np.ndarray) -> None:
        seconds = self.timestep * self.frame_skip
        command, phase = sim.memory("command", 5), sim.memory("phase")
        command += (TROT.command(action) - command) * (1.0 - np.exp(-seconds / TROT.smoothing))
        phase[:] = (phase + command[:, 4] * seconds) % 1.0
        rotation = _rotation(sim.qpos[:, 3:7])
        velocity = np.einsum("nij,ni->nj", rotation[:, :, :2], sim.qvel[:, :3])
        sim.ctrl[:] = TROT.joints(command, phase, rotation[:, 2, :2], velocity)
        sim.memory("action", 5)[:] = action

    # -- what the policy sees and earns --------------------------------------------------------------------------------

    def observe(self, sim: Simulation) -> np.ndarray:
        rotation = _rotation(sim.qpos[:, 3:7])
        heading = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
        phase = 2.0 * np.pi * sim.memory("phase")
        return np.concatenate(
            [
                rotation[:, 2, :],  # the world's vertical in the body's frame
                sim.qvel[:, 3:6] / 3.0,
                np.einsum("nij,ni->nj", rotation, sim.qvel[:, :3]),
                (sim.qpos[:, 7:] - CROUCH) / 0.4,
                sim.qvel[:, 6:] / 8.0,
                np.stack([np.sin(phase), np.cos(phase)], axis=1),
                sim.memory("action", 5),
                (sim.qpos[:, :2] - sim.memory("start", 2)) / 1.5,
                np.stack([np.sin(heading), np.cos(heading)], axis=1),
                (1.0 - sim.step / self.horizon)[:, None],
            ],
            axis=1,
        )

    def reward(self, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        route, previous_action = sim.memory("route"), sim.memory("previous_action", 5)
        left = route_length(sim.qpos[:, 0], sim.qpos[:, 1], sim.constants["openings"])
        speed = (route - left) / self.control_seconds
        change = np.mean(np.square(action - previous_action), axis=1)
        power = np.mean(np.square(sim.qvel[:, 6:]), axis=1)
        route[:], previous_action[:] = left, action
        balance = np.clip((uprightness(sim) - 0.5) / 0.3, 0.0, 1.0)
        return {
            "progress": balance * np.clip(speed / CAP_SPEED, -1.0, 1.0),
            "finish": balance * (sim.qpos[:, 0] > FINISH_X),
            "upright": 0.1 * balance,
            "effort": -0.05 * np.tanh(power / 25.0),
            "smoothness": -0.05 * np.minimum(change, 1.0),
        }

    def success(self, sim: Simulation) -> np.ndarray:
        return (sim.qpos[:, 0] > FINISH_X) & (uprightness(sim) > 0.7)

    def scripted(self, sim: Simulation) -> np.ndarray:
        """Steers the trot along the passable route: sideways to the opening before it, then straight through it."""
        x, y = sim.qpos[:, 0], sim.qpos[:, 1]
        rotation = _rotation(sim.qpos[:, 3:7])
        heading = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
        openings = sim.constants["openings"]
        nearest = np.where(x < openings[:, 0, 1] + 0.25, 0, 1)
        start, end, low, high = openings[np.arange(sim.size), nearest].T
        beside = 0.5 * (low + high) - y
        close = np.clip((np.abs(beside) - 0.08) / 0.3, 0.0, 1.0)
        room = start - 0.35 - x  # what is left before the robot's nose reaches the obstacle
        forward = np.where(x < end, np.minimum(0.8, 0.8 * (1.0 - close) + close * np.clip(1.5 * room, -0.2, 0.6)), 0.8)
        sideways = np.where(x < end + 0.2, np.clip(2.0 * beside, -0.5, 0.5), 0.0)
        speed = np.einsum("ni,ni->n", rotation[:, :, 0], sim.qvel[:, :3])
        push = np.clip(forward + np.clip(forward, 0.0, 0.6) - speed, -0.1, 1.2)
        command = np.stack(
            [
                np.where(x < FINISH_X + 0.35, push, 0.0),
                sideways,
                np.clip(-2.5 * heading, -1.0, 1.0),
                np.where(x < FINISH_X + 0.4, TROT.neutral[3], 0.0),
                np.full_like(x, TROT.neutral[4]),
            ],
            axis=1,
        )
        return TROT.action(command)


def uprightness(sim: Simulation) -> np.ndarray:
    """[N] cosine of the angle between the robot's back and the world's vertical: 1 upright, 0 on its side."""
    x, y = sim.qpos[:, 4], sim.qpos[:, 5]
    return 1.0 - 2.0 * (x * x + y * y)


def _rotation(quat: np.ndarray) -> np.ndarray:
    """[N, 3, 3] rotation matrices (body to world) of quaternions [N, 4] (w, x, y, z)."""
    w, x, y, z = quat.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
