"""The machines of the `bandit` family: a row of cabinets with a lever each. Only pictures see more than the levers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import mujoco
import numpy as np

SPACING = 0.7  # m from one machine to the next
CABINET = np.array([0.24, 0.2, 0.5])  # m, half sizes
EYE_HEIGHT = 0.5  # m above the ground that the camera looks at
GAUGE_HEIGHT = 0.8  # m of the column beside a machine that always pays
BODY, TRIM, PAYING, LEVER = [0.20, 0.33, 0.52, 1], [0.88, 0.90, 0.92, 1], [0.25, 0.66, 0.44, 1], [0.86, 0.32, 0.26, 1]


@cache
def plain_bandit_model(arms: int) -> mujoco.MjModel:
    """One model for all tasks of so many arms: what a machine pays is no part of the physics."""
    return _levers(arms).compile()


def bandit_model(probabilities: Sequence[float]) -> mujoco.MjModel:
    """The model with the machines around the levers; the green column on each shows how often it pays."""
    spec = _levers(len(probabilities))
    _light(spec)
    for x, probability in zip(_places(len(probabilities)), probabilities, strict=True):
        _box(spec, [x, 0.0, CABINET[2]], CABINET, BODY)
        _box(spec, [x, -CABINET[1], CABINET[2]], [0.2, 0.012, 0.45], TRIM)
        _box(spec, [x, -CABINET[1] - 0.012, 0.5], [0.05, 0.006, 0.5 * GAUGE_HEIGHT], [0.62, 0.66, 0.70, 1])
        height = max(0.5 * GAUGE_HEIGHT * probability, 0.004)
        _box(spec, [x, -CABINET[1] - 0.02, 0.5 - 0.5 * GAUGE_HEIGHT + height], [0.05, 0.012, height], PAYING)
    return spec.compile()


def _levers(arms: int) -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.modelname = "bandit"
    spec.option.timestep = 0.25
    spec.option.gravity = [0.0, 0.0, 0.0]
    disable = mujoco.mjtDisableBit
    spec.option.disableflags |= int(disable.mjDSBL_CONTACT) | int(disable.mjDSBL_CONSTRAINT)
    for arm, x in enumerate(_places(arms)):
        body = spec.worldbody.add_body(name=f"lever{arm}", pos=[x + CABINET[0] + 0.05, 0.0, 0.55])
        body.add_joint(name=f"lever{arm}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[1.0, 0.0, 0.0])
        capsule, sphere = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_SPHERE
        body.add_geom(type=capsule, fromto=[0, 0, 0, 0, 0, 0.42], size=[0.022, 0, 0], rgba=TRIM)
        body.add_geom(type=sphere, pos=[0, 0, 0.45], size=[0.06, 0, 0], rgba=LEVER)
    width = SPACING * max(arms, 3)
    tilt = np.deg2rad(15.0)
    place = EYE_HEIGHT * np.array([0.0, 0.0, 1.0]) + 1.12 * width * np.array([0.0, -np.cos(tilt), np.sin(tilt)])
    turn = 0.5 * (0.5 * np.pi - tilt)
    spec.worldbody.add_camera(name="film", pos=place, quat=[np.cos(turn), np.sin(turn), 0.0, 0.0], fovy=45.0)
    spec.stat.extent, spec.stat.center = width, [0.0, 0.0, EYE_HEIGHT]
    return spec


def _places(arms: int) -> np.ndarray:
    """[arms] x of each machine, in metres."""
    return SPACING * (np.arange(arms) - 0.5 * (arms - 1))


def _box(spec: mujoco.MjSpec, pos: Sequence[float], size: Sequence[float] | np.ndarray, rgba: Sequence[float]) -> None:
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=pos, size=size, rgba=rgba)


def _light(spec: mujoco.MjSpec) -> None:
    headlight = spec.visual.headlight
    headlight.ambient, headlight.diffuse, headlight.specular = [0.45] * 3, [0.2] * 3, [0.05] * 3
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1280, 960
    spec.visual.quality.offsamples = 8
    spec.visual.map.shadowclip = 2.0
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.95, 0.96, 0.97],
        rgb2=[0.80, 0.85, 0.90],
        width=64,
        height=384,
    )
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[60.0, 60.0, 0.1], rgba=[0.87, 0.89, 0.91, 1])
    sun = spec.worldbody.add_light(name="sun", pos=[0.8, -2.0, 4.0], dir=[-0.2, 0.5, -1.0], castshadow=True)
    sun.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    sun.diffuse, sun.specular = [0.52, 0.51, 0.49], [0.1] * 3
