"""`grasp`: a hand on a gantry finds out where a strange object can be held, and lifts it.

The tracker sits under the centre of a body that is mostly too wide for the jaws; somewhere on the object is a part that
fits. Where it is, how it is turned, how high and how wide is the task, and nothing of it is observed.
"""

from __future__ import annotations

import math
from functools import cache
from typing import ClassVar

import mujoco
import numpy as np

import assets
from envs.grasp_draw import PARAMETERS, draw_task
from envs.grasp_objects import BODY_SHAPES, KINDS, PART_SHAPES, SLOTS, GraspTask, Piece, add_object, pieces, turn_matrix
from envs.grasp_scene import dress
from envs.task import Simulation, Task, TaskError, TaskFamily

# Full-scale rates of the five actions: x, y, z in m/s, yaw in rad/s, each finger in m/s (positive opens).
RATE = np.array([0.15, 0.15, 0.15, 2.0, 0.08])
# Where the setpoints of x, y, z, yaw and finger may go; z stops before the fingertips reach the table.
WORKSPACE = np.array([[-0.2, 0.2], [-0.2, 0.2], [0.005, 0.22], [-1.75, 1.75], [-0.012, 0.036]])
# How far a setpoint may lead its joint: enough for full force, too little to wind up.
LEASH = np.array([0.03, 0.03, 0.03, 0.3, 0.014])

PAD_HEIGHT = 0.01  # of the point that should meet the part, above the fingertips
PAD_HALF_LENGTH = 0.008
START_HEIGHT = 0.11
LIFT_SCALE = 0.02  # metres of height that earn three quarters of `lift`
PROGRESS_STEP = 0.01  # metres nearer to the part in one control step that earn all of `progress`
CLEAR = 0.03  # metres between the object's lowest point and the table that count as lifted

HAND_X, HAND_Z, HAND_YAW, FINGER, OBJECT = 0, 2, 3, 4, 6  # indices into qpos and qvel


class GraspFamily(TaskFamily[GraspTask]):
    """Objects on a table, each with a part that can be held."""

    name = "grasp"
    version: ClassVar[str] = "3"
    task_type: ClassVar[type[Task]] = GraspTask
    parameters = PARAMETERS
    horizon = 40
    timestep = 0.008
    frame_skip = 10
    observation_size = 24
    action_size = 5
    reset_noise_size = 6
    reward_terms = ("progress", "approach", "reach", "pinch", "lift", "hold")
    feature_size = 18 + len(KINDS) + len(BODY_SHAPES) + len(PART_SHAPES)

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, ood: bool) -> GraspTask:
        return draw_task(rng, ood)

    def validate(self, task: GraspTask) -> None:
        for name, allowed in (("kind", KINDS), ("body_shape", BODY_SHAPES), ("part_shape", PART_SHAPES)):
            if getattr(task, name) not in allowed:
                raise TaskError(
                    f"grasp task, parameter '{name}': '{getattr(task, name)}' is none of {', '.join(allowed)}"
                )
        for name in (
            *("body_length_m", "body_width_m", "body_height_m", "part_length_m", "part_width_m", "part_height_m"),
            *("mass_kg", "friction"),
        ):
            if getattr(task, name) <= 0:
                raise TaskError(f"grasp task, parameter '{name}' must be positive, got {getattr(task, name)}")
        if task.part_base_m < 0:
            raise TaskError(f"grasp task, parameter 'part_base_m' must not be negative, got {task.part_base_m}")

    def features(self, task: GraspTask) -> np.ndarray:
        grip = _grip(task)
        turn = turn_matrix(task.yaw_rad)
        part_yaw = task.yaw_rad + task.part_turn_rad
        part = turn @ np.array([task.part_x_m, task.part_y_m, 0.0])
        numbers = [
            *(turn @ grip.hold)[:2] / 0.05,
            *part[:2] / 0.05,
            math.sin(2 * part_yaw),
            math.cos(2 * part_yaw),
            math.sin(task.yaw_rad),
            math.cos(task.yaw_rad),
            (grip.hold[2] - 0.03) / 0.02,
            (task.part_base_m - 0.015) / 0.01,
            (task.part_length_m - 0.04) / 0.02,
            (task.part_width_m - 0.02) / 0.01,
            (task.part_height_m - 0.03) / 0.01,
            (task.body_length_m - 0.1) / 0.03,
            (task.body_width_m - 0.1) / 0.03,
            (task.body_height_m - 0.03) / 0.02,
            (task.mass_kg - 0.15) / 0.1,
            (task.friction - 1.0) / 0.3,
        ]
        choices = ((task.kind, KINDS), (task.body_shape, BODY_SHAPES), (task.part_shape, PART_SHAPES))
        one_hots = [float(value == name) for value, names in choices for name in names]
        return np.array(numbers + one_hots, dtype=np.float32)

    # -- physics -------------------------------------------------------------------------------------------------------

    def model(self, task: GraspTask, visual: bool = False) -> mujoco.MjModel:
        self.validate(task)
        spec = _hand(visual).copy()
        add_object(spec, task)
        if visual:
            dress(spec, task)
        try:
            return spec.compile()
        except ValueError as error:
            raise TaskError(f"grasp task: no object could be built from {task}: {error}") from None

    def constants(self, task: GraspTask, model: mujoco.MjModel) -> dict[str, np.ndarray | float]:
        """What the methods below need. Vectors are in the frame of the free joint, which MuJoCo aligns with inertia.

        frame_pos, frame_quat: the object's own frame; middle, axis, span: the middle, direction and half length of the
        stretch that can be held; best: where on it the scripted hand holds; points: of the surface; hold_height, top:
        heights of `best` and of the whole object at rest; yaw: of the object on the table.
        """
        site = model.site("tracked")
        frame_pos, frame_quat = np.array(site.pos), np.array(site.quat)
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, frame_quat)
        turn = rotation.reshape(3, 3).T
        used = pieces(task)
        used += [used[1]] * (SLOTS - len(used))
        grip = _grip(task)
        return {
            "frame_pos": frame_pos,
            "frame_quat": frame_quat,
            "points": frame_pos + np.concatenate([piece.points() for piece in used]) @ turn,
            "middle": frame_pos + grip.middle @ turn,
            "best": frame_pos + grip.hold @ turn,
            "axis": grip.axis @ turn,
            "span": grip.span,
            "hold_height": grip.hold[2],
            "top": max(task.part_base_m + task.part_height_m, task.body_height_m),
            "yaw": task.yaw_rad,
        }

    def reset(self, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        spread = 2 * noise - 1
        tracked = 0.02 * spread[:, :2]
        yaw = sim.constants["yaw"][ids]
        upright = np.stack([np.cos(yaw / 2), np.zeros_like(yaw), np.zeros_like(yaw), np.sin(yaw / 2)], axis=1)
        frame_quat = sim.constants["frame_quat"][ids]
        quat = _multiply(upright, frame_quat * np.array([1.0, -1.0, -1.0, -1.0]))
        position = np.concatenate([tracked, np.full((len(ids), 1), 0.0005)], axis=1)
        sim.qpos[ids, OBJECT : OBJECT + 3] = position - _rotate(quat, sim.constants["frame_pos"][ids])
        sim.qpos[ids, OBJECT + 3 : OBJECT + 7] = quat
        sim.qpos[ids, 0:2] = tracked + 0.015 * spread[:, 2:4]
        sim.qpos[ids, HAND_Z] = START_HEIGHT + 0.01 * spread[:, 4]
        sim.qpos[ids, HAND_YAW] = 0.1 * spread[:, 5]
        sim.qpos[ids, FINGER : FINGER + 2] = 0.034
        sim.qvel[ids] = 0.0
        sim.ctrl[ids] = sim.qpos[ids, : FINGER + 2]
        sim.memory("start", 2)[ids] = tracked
        sim.memory("across")[ids] = np.linalg.norm(self._to_part(sim)[ids, :2], axis=1)
        sim.memory("phase")[ids] = 0
        sim.memory("held_for")[ids] = 0

    def control(self, sim: Simulation, action: np.ndarray) -> None:
        joints = sim.qpos[:, : FINGER + 1]
        setpoint = sim.ctrl[:, : FINGER + 1] + action * RATE * self.control_seconds
        setpoint = np.clip(setpoint, joints - LEASH, joints + LEASH)
        setpoint = np.clip(setpoint, WORKSPACE[:, 0], WORKSPACE[:, 1])
        sim.ctrl[:, : FINGER + 1] = setpoint
        sim.ctrl[:, FINGER + 1] = setpoint[:, FINGER]

    def observe(self, sim: Simulation) -> np.ndarray:
        joints, tracked = sim.qpos[:, : FINGER + 1], _in_world(sim, "frame_pos")
        return np.concatenate(
            [
                joints[:, :2] / 0.1,
                (joints[:, 2:3] - 0.06) / 0.05,
                joints[:, 3:4],
                (joints[:, 4:5] - 0.018) / 0.018,
                sim.qvel[:, : FINGER + 1] / RATE,
                (sim.ctrl[:, : FINGER + 1] - joints) / LEASH,
                (tracked - _pad(sim)) / 0.05,
                tracked[:, 2:3] / 0.05,
                (tracked[:, :2] - sim.memory("start", 2)) / 0.05,
                np.minimum(_touch(sim) / 4.0, 3.0),
                1.0 - 2.0 * sim.step[:, None] / self.horizon,
            ],
            axis=1,
        )

    def reward(self, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        """progress: moving over towards the part, which says at once on which side it is; approach: near it, across
        and in height apart; reach: at it; pinch: both fingers press something; lift: that something rises, the first
        two centimetres most of all; hold: it would count as success now."""
        aside = self._to_part(sim)
        across, up = np.linalg.norm(aside[:, :2], axis=1), np.abs(aside[:, 2])
        before = sim.memory("across")
        progress = np.clip((before - across) / PROGRESS_STEP, -1.0, 1.0)
        before[:] = across
        pinch = self._pinch(sim)
        clearance, rise = self.clearance(sim), _in_world(sim, "best")[:, 2] - sim.constants["hold_height"]
        lifted = sum(np.tanh(np.clip(height, 0.0, None) / LIFT_SCALE) for height in (clearance, rise)) / 2
        return {
            "progress": 0.1 * progress,
            "approach": 0.05 * (1.0 - np.tanh(across / 0.05)) + 0.05 * (1.0 - np.tanh(up / 0.1)),
            "reach": 0.1 * np.exp(-((across / 0.02) ** 2) - (up / 0.02) ** 2),
            "pinch": 0.2 * pinch,
            "lift": 0.4 * pinch * lifted,
            "hold": 0.1 * self.success(sim),
        }

    def success(self, sim: Simulation) -> np.ndarray:
        hand, object_ = sim.qvel[:, :3], sim.qvel[:, OBJECT : OBJECT + 3]
        arm = sim.qpos[:, OBJECT : OBJECT + 2] - sim.qpos[:, :2]
        turning = sim.qvel[:, HAND_YAW, None] * np.stack([-arm[:, 1], arm[:, 0], np.zeros(sim.size)], axis=1)
        slow = np.linalg.norm(object_ - hand - turning, axis=1) < 0.05
        held = (_touch(sim) > 0.5).all(axis=1) & (sim.qpos[:, FINGER] > 0.003)
        return held & slow & (self.clearance(sim) > CLEAR)

    def clearance(self, sim: Simulation) -> np.ndarray:
        """[N] metres from the table to the lowest point of the object."""
        w, x, y, z = sim.qpos[:, OBJECT + 3 : OBJECT + 7].T
        down = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1)
        heights = np.einsum("npi,ni->np", sim.constants["points"], down)
        return sim.qpos[:, OBJECT + 2] + heights.min(axis=1)

    def _pinch(self, sim: Simulation) -> np.ndarray:
        """[N] in [0, 1]: how firmly both fingers press on something between them."""
        force = _touch(sim).min(axis=1)
        return np.clip(force / 3.0, 0.0, 1.0) * (sim.qpos[:, FINGER] > 0.003)

    def _to_part(self, sim: Simulation) -> np.ndarray:
        """[N, 3] from the point between the pads to the nearest place where the part can be held."""
        axis = _rotate(sim.qpos[:, OBJECT + 3 : OBJECT + 7], sim.constants["axis"])
        aside = _in_world(sim, "middle") - _pad(sim)
        span = sim.constants["span"]
        along = np.clip(-(aside * axis).sum(axis=1), -span, span)
        return aside + along[:, None] * axis

    # -- the controller that is told the task --------------------------------------------------------------------------

    def scripted(self, sim: Simulation) -> np.ndarray:
        """Over the part, down, close, lift: phases 0 to 3."""
        phase, held_for = sim.memory("phase"), sim.memory("held_for")
        best = _in_world(sim, "best")
        joints, setpoint = sim.qpos[:, : FINGER + 1], sim.ctrl[:, : FINGER + 1]
        ahead = _rotate(sim.qpos[:, OBJECT + 3 : OBJECT + 7], sim.constants["axis"])
        part_yaw = np.arctan2(ahead[:, 1], ahead[:, 0])
        part_yaw -= math.pi * np.round(part_yaw / math.pi)
        low = np.maximum(sim.constants["hold_height"] - PAD_HEIGHT, WORKSPACE[2, 0])

        target = np.empty_like(joints)
        target[:, :2] = best[:, :2]
        target[:, 2] = np.where(phase == 0, sim.constants["top"] + 0.015, low)
        target[:, 3] = part_yaw
        target[:, 4] = np.where(phase < 2, WORKSPACE[4, 1], WORKSPACE[4, 0])
        lifting = phase == 3
        target[lifting, 2] = low[lifting] + 0.1
        fixed = phase >= 2
        target[fixed, :2], target[fixed, 3] = setpoint[fixed, :2], setpoint[fixed, 3]

        off = np.abs(target - joints)
        over = (off[:, :2].max(axis=1) < 0.005) & (off[:, 3] < 0.06)
        down = off[:, 2] < 0.004
        held_for[:] = np.where((_touch(sim) > 3.0).all(axis=1), held_for + 1, 0)
        phase[:] = np.select(
            [(phase == 0) & over, (phase == 1) & down & over, (phase == 2) & (held_for >= 2)],
            [1, 2, 3],
            default=phase,
        )
        return np.clip((target - setpoint) / (RATE * self.control_seconds), -1.0, 1.0)


class _Grip:
    """Where a part can be held, in the object's frame: a stretch of its axis, and the best place on it."""

    def __init__(self, middle: np.ndarray, axis: np.ndarray, span: float, hold: np.ndarray) -> None:
        self.middle, self.axis, self.span, self.hold = middle, axis, span, hold


def _grip(task: GraspTask) -> _Grip:
    """The stretch of the part's axis that is clear of the body, and the place on it nearest to the centre of mass."""
    used = pieces(task)
    part, bodies = used[0], used[1:]
    axis = turn_matrix(part.turn)[:, 0]
    half = max(part.extent[0] / 2 - PAD_HALF_LENGTH, 0.0) if part.shape == "box" or part.lies else 0.0
    places = np.linspace(-half, half, 41)
    centre = part.centre.copy()
    centre[2] = max(centre[2], 0.005 + PAD_HEIGHT)
    if task.part_base_m < task.body_height_m - 0.002:
        room = np.array([min(_gap(body, centre + place * axis) for body in bodies) for place in places])
        clear = room > PAD_HALF_LENGTH + 0.003
        places = places[clear] if clear.any() else places[room.argmax()][None]
    weights = np.array([piece.weight for piece in used])
    mass_centre = (weights[:, None] * np.array([piece.centre for piece in used])).sum(axis=0) / weights.sum()
    best = float(np.clip((mass_centre - centre) @ axis, places.min(), places.max()))
    middle, span = (places.max() + places.min()) / 2, (places.max() - places.min()) / 2
    return _Grip(centre + middle * axis, axis, float(span), centre + best * axis)


def _gap(body: Piece, place: np.ndarray) -> float:
    """Horizontal distance from the outside of an unturned body to a place (negative inside)."""
    offset = place[:2] - body.centre[:2]
    if body.shape == "cylinder":
        return float(np.linalg.norm(offset) - body.radius)
    return float((np.abs(offset) - body.extent[:2] / 2).max())


@cache
def _hand(visual: bool) -> mujoco.MjSpec:
    """The hand and its table, to be copied: parsing costs more than all the rest of a model but compiling it."""
    spec = mujoco.MjSpec.from_file(str(assets.path("hand.xml")))
    if not visual:
        for geom in [geom for geom in spec.geoms if geom.group == 2]:
            spec.delete(geom)
    return spec


def _touch(sim: Simulation) -> np.ndarray:
    """[N, 2] newtons on the inner faces of the two fingers; a reset leaves the sensors as they were."""
    return np.where(sim.step[:, None] > 0, sim.sensordata[:, :2], 0.0)


def _pad(sim: Simulation) -> np.ndarray:
    """[N, 3] the point between the finger pads."""
    return sim.qpos[:, :3] + np.array([0.0, 0.0, PAD_HEIGHT])


def _in_world(sim: Simulation, name: str) -> np.ndarray:
    """[N, 3] where the constant point of that name of the object is now."""
    pose = sim.qpos[:, OBJECT : OBJECT + 7]
    return pose[:, :3] + _rotate(pose[:, 3:], sim.constants[name])


def _rotate(quat: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """[N, 3] vectors turned by unit quaternions [N, 4]."""
    axis = quat[:, 1:]
    twice = 2 * _cross(axis, vector)
    return vector + quat[:, :1] * twice + _cross(axis, twice)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, 3] cross products; several times as fast as `np.cross` on rows."""
    ax, ay, az = a.T
    bx, by, bz = b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, 4] products of quaternions."""
    real = a[:, :1] * b[:, :1] - (a[:, 1:] * b[:, 1:]).sum(axis=1, keepdims=True)
    return np.concatenate([real, a[:, :1] * b[:, 1:] + b[:, :1] * a[:, 1:] + _cross(a[:, 1:], b[:, 1:])], axis=1)
