"""The objects of `grasp`: a body that is often too wide to hold and a part that can be held, from a few geoms.

The object's own frame has its origin on the table under the centre of the body, z up; that origin is what is tracked.
Every object fills the same geom slots and every model carries the same mesh, so that all models share one layout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from envs.task import Task

BODY_SHAPES = ("box", "cylinder")
PART_SHAPES = ("box", "cylinder", "capsule", "ellipsoid", "mesh")
TRAIN_KINDS = ("lid", "pan", "mug", "hammer")
OOD_KINDS = ("tee", "ell", "dumbbell")
KINDS = (*TRAIN_KINDS, *OOD_KINDS)

# How dense the body is, with the part as the unit: a hammer's head is heavy, a mug is hollow.
BODY_DENSITY = {"lid": 1.0, "pan": 1.5, "mug": 0.7, "hammer": 2.5, "tee": 1.3, "ell": 1.1, "dumbbell": 2.0}

SLOTS = 3
POINTS_PER_PIECE = 16
OBJECT, UNUSED = 3, 8  # collision bits of pieces in use (they meet table and fingers) and of those that are not


@dataclass(frozen=True)
class GraspTask(Task):
    """An object on the table. Lengths in metres, in the object's frame; angles in radians.

    kind: what the object is. It says how the mass is spread (`BODY_DENSITY`) and, for a `dumbbell`, that there is a
        second body beyond the part.
    body_*: shape and extent (x, y, z) of the body; it stands on the table around the origin.
    part_*: shape, centre (x, y) and lowest height of the part to hold, its extent along (length) and across (width) its
        own axis and upwards (height), and how that axis is turned from the object's x axis. Cylinders and capsules lie
        along their axis where they are longer than wide, and stand otherwise.
    yaw_rad: how the whole object is turned on the table; the same in every episode.
    friction: sliding friction between fingers and object.
    """

    kind: str
    body_shape: str
    body_length_m: float
    body_width_m: float
    body_height_m: float
    part_shape: str
    part_x_m: float
    part_y_m: float
    part_base_m: float
    part_length_m: float
    part_width_m: float
    part_height_m: float
    part_turn_rad: float
    yaw_rad: float
    mass_kg: float
    friction: float


@dataclass(frozen=True)
class Piece:
    """One geom: shape, extent (length, width, height), centre and turn about z in the object's frame.

    density: relative to that of the part.
    """

    shape: str
    extent: np.ndarray
    centre: np.ndarray
    turn: float = 0.0
    density: float = 1.0

    @property
    def lies(self) -> bool:
        """Is the axis of this cylinder or capsule horizontal?"""
        return self.shape in ("cylinder", "capsule") and bool(self.extent[0] > self.extent[1])

    @property
    def radius(self) -> float:
        return float(self.extent[1]) / 2

    @property
    def half_axis(self) -> float:
        """Half the length of the straight part of a cylinder or capsule."""
        half = float(self.extent[0 if self.lies else 2]) / 2
        return max(half - self.radius, 1e-3) if self.shape == "capsule" else half

    @property
    def weight(self) -> float:
        """Volume times relative density: the piece's share of the object's mass."""
        length, width, height = self.extent
        round_section = math.pi * self.radius**2
        volume = float(
            {
                "box": length * width * height,
                "cylinder": round_section * 2 * self.half_axis,
                "capsule": round_section * (2 * self.half_axis + 4 / 3 * self.radius),
                "ellipsoid": math.pi / 6 * length * width * height,
                "mesh": 0.6 * length * width * height,
            }[self.shape]
        )
        return self.density * volume

    def points(self) -> np.ndarray:
        """[POINTS_PER_PIECE, 3] points of the surface, in the object's frame: enough to tell its lowest point."""
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
        angles = np.arange(8) * math.pi / 4
        ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(8)], axis=1)
        up = np.array([0.0, 0.0, 1.0])
        if self.shape == "mesh":
            unit = np.concatenate([KNOB_VERTICES, KNOB_VERTICES[:4]])
        elif self.shape in ("cylinder", "capsule") and not self.lies:
            unit = np.concatenate([ring - up, ring + up])
        elif self.shape == "ellipsoid":
            low = corners[corners[:, 2] < 0] / math.sqrt(3)
            unit = np.concatenate([ring, low, [up, -up], low[:2]])
        else:
            unit = np.concatenate([corners, corners])
        return self.centre + (unit * self.extent / 2) @ turn_matrix(self.turn).T


# A knob that is a little wider at the top: two hexagons, in a box of extent 2.
KNOB_VERTICES = np.array(
    [
        [scale * math.cos(k * math.pi / 3), scale * math.sin(k * math.pi / 3) / math.sin(math.pi / 3), z]
        for z, scale in ((-1.0, 0.8), (1.0, 1.0))
        for k in range(6)
    ]
)


def turn_matrix(angle: float) -> np.ndarray:
    """[3, 3] rotation about z."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def pieces(task: GraspTask) -> list[Piece]:
    """The geoms of the task's object: the part to hold first, then the body, then a second body if it has one."""
    part = Piece(
        task.part_shape,
        np.array([task.part_length_m, task.part_width_m, task.part_height_m]),
        np.array([task.part_x_m, task.part_y_m, task.part_base_m + task.part_height_m / 2]),
        task.part_turn_rad,
    )
    extent = np.array([task.body_length_m, task.body_width_m, task.body_height_m])
    body = Piece(task.body_shape, extent, np.array([0.0, 0.0, task.body_height_m / 2]), density=BODY_DENSITY[task.kind])
    found = [part, body]
    if task.kind == "dumbbell":
        beyond = np.array([2 * task.part_x_m, 2 * task.part_y_m, task.body_height_m / 2])
        found.append(Piece(task.body_shape, extent, beyond, density=BODY_DENSITY[task.kind]))
    return found


def add_object(spec: mujoco.MjSpec, task: GraspTask) -> None:
    """Add the task's object as a free body `object`, with a site `tracked` at the origin of its own frame."""
    body = spec.worldbody.add_body(name="object")
    joint = body.add_freejoint(name="object")
    joint.align = mujoco.mjtAlignFree.mjALIGNFREE_TRUE
    body.add_site(name="tracked", group=4, size=[0.002, 0.002, 0.002])
    knob = KNOB_VERTICES * np.array([task.part_length_m, task.part_width_m, task.part_height_m]) / 2
    spec.add_mesh(name="knob", uservert=knob.flatten())

    used = pieces(task)
    total = sum(piece.weight for piece in used)
    for slot in range(SLOTS):
        name = f"object{slot}"
        if slot < len(used):
            piece = used[slot]
            geom = body.add_geom(name=name, pos=piece.centre, mass=task.mass_kg * piece.weight / total)
            _shape(geom, piece)
            geom.conaffinity = OBJECT
            geom.priority = 1
            geom.condim = 4
            geom.friction = [task.friction, 0.02, 0.0001]
        else:
            # It meets nothing, but its bit keeps it in the tree of bounding volumes, so that layouts stay equal.
            body.add_geom(name=name, pos=used[1].centre, size=[1e-3] * 3, mass=0.0, group=4, conaffinity=UNUSED)


def _shape(geom: mujoco.MjsGeom, piece: Piece) -> None:
    """Give the geom the piece's shape, size and turn."""
    half_turn = piece.turn / 2
    turn = np.array([math.cos(half_turn), 0.0, 0.0, math.sin(half_turn)])
    if piece.shape == "mesh":
        geom.type = mujoco.mjtGeom.mjGEOM_MESH
        geom.meshname = "knob"
    elif piece.shape == "box":
        geom.type = mujoco.mjtGeom.mjGEOM_BOX
        geom.size = piece.extent / 2
    elif piece.shape == "ellipsoid":
        geom.type = mujoco.mjtGeom.mjGEOM_ELLIPSOID
        geom.size = piece.extent / 2
    else:
        kinds = {"cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER, "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE}
        geom.type = kinds[piece.shape]
        geom.size = [piece.radius, piece.half_axis, 0.0]
        if piece.lies:
            upright_to_x = np.array([math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0])
            product = np.zeros(4)
            mujoco.mju_mulQuat(product, turn, upright_to_x)
            turn = product
    geom.quat = turn
