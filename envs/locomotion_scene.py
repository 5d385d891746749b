"""How the half-cheetah and the ant look in previews and films. Nothing here has a part in the physics."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from envs.terrain_scene import add_sky

MARKS = 20  # arrows on the ground of a picture

GROUND_COLOR, LINE_COLOR = [0.80, 0.83, 0.82], [0.72, 0.76, 0.76]
MARK_COLOR = [0.93, 0.49, 0.19, 1.0]


def dress(spec: mujoco.MjSpec, eye: Sequence[float], heading: float, spacing: float) -> None:
    """Add sky, ground, light, the `film` camera and the arrows that show the goal; nothing that the physics notices.

    eye: of the camera, in metres from the robot, which it follows and looks at. heading: of the arrows, radians from
    +x; spacing: metres from one to the next, the first being `spacing` from the start.
    """
    quality, headlight = spec.visual.quality, spec.visual.headlight
    quality.shadowsize, quality.offsamples = 4096, 8
    headlight.ambient, headlight.diffuse, headlight.specular = [0.40] * 3, [0.30] * 3, [0.05] * 3
    for light in spec.lights:
        spec.delete(light)
    torso = spec.body("torso")
    sun = torso.add_light(name="sun", pos=[-1.0, -2.0, 4.0], dir=[0.25, 0.45, -1.0], castshadow=True)
    sun.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    sun.mode = mujoco.mjtCamLight.mjCAMLIGHT_TRACK
    sun.diffuse, sun.specular = [0.60, 0.58, 0.54], [0.2] * 3
    _lay_ground(spec)
    _lay_arrows(spec, heading, spacing)
    back = np.asarray(eye) / np.linalg.norm(eye)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    rotation, quat = np.stack([right, np.cross(back, right), back], axis=1), np.zeros(4)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    camera = torso.add_camera(name="film", pos=list(eye), quat=quat, fovy=45.0)
    camera.mode = mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM


def _lay_ground(spec: mujoco.MjSpec) -> None:
    add_sky(spec)
    spec.add_texture(
        name="ground",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=GROUND_COLOR,
        rgb2=LINE_COLOR,
        width=512,
        height=512,
    )
    material = spec.add_material(name="ground", texuniform=True, texrepeat=[0.5, 0.5], specular=0.05, shininess=0.05)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    floor = spec.geom("floor")
    floor.material, floor.rgba, floor.size = "ground", [1.0] * 4, [0.0, 0.0, 1.0]


def _lay_arrows(spec: mujoco.MjSpec, heading: float, spacing: float) -> None:
    """Two bars each, flat on the ground, touching nothing."""
    along, across = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
    length, width = 0.16, 0.035
    for mark in range(1, MARKS + 1):
        tip = mark * spacing * along
        for side in (-1.0, 1.0):
            centre = tip + 0.7 * length * (side * across - along)
            turn = heading - side * np.pi / 4.0
            spec.worldbody.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[*centre, 0.004],
                quat=[np.cos(turn / 2.0), 0.0, 0.0, np.sin(turn / 2.0)],
                size=[length, width, 0.004],
                rgba=MARK_COLOR,
                contype=0,
                conaffinity=0,
            )
