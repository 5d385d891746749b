"""What makes a `grasp` model worth looking at. Nothing here has mass or touches anything."""

from __future__ import annotations

from functools import cache

import mujoco
import numpy as np

from envs.grasp_objects import GraspTask

# Colours of bodies; the part to hold is always in the one colour that none of them has.
BODY_COLOURS = ((0.2, 0.42, 0.6), (0.26, 0.5, 0.42), (0.45, 0.36, 0.58), (0.6, 0.62, 0.66), (0.62, 0.36, 0.32))
PART_COLOUR = (0.96, 0.72, 0.22)


def dress(spec: mujoco.MjSpec, task: GraspTask) -> None:
    """Add textures, lights, colours and a camera to a grasp model."""
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1280, 960
    spec.visual.quality.shadowsize = 4096
    spec.visual.quality.offsamples = 8
    spec.visual.headlight.ambient = [0.36, 0.36, 0.37]
    spec.visual.headlight.diffuse = [0.2, 0.2, 0.2]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    spec.visual.map.znear, spec.visual.map.zfar = 0.05, 30
    spec.visual.map.shadowclip = 0.9
    spec.stat.center, spec.stat.extent = [0, 0, 0.06], 0.5
    _paint(spec, task)
    _light(spec)
    _film(spec)


def _paint(spec: mujoco.MjSpec, task: GraspTask) -> None:
    sky = spec.add_texture(name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=256, height=1536)
    sky.builtin = mujoco.mjtBuiltin.mjBUILTIN_GRADIENT
    sky.rgb1, sky.rgb2 = [0.95, 0.93, 0.9], [0.5, 0.57, 0.65]
    planks = spec.add_texture(name="planks", type=mujoco.mjtTexture.mjTEXTURE_2D, width=512, height=512, nchannel=3)
    planks.data = _planks().tobytes()
    wood = spec.add_material(name="wood", specular=0.15, shininess=0.3, texrepeat=[3, 3])
    wood.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = planks.name
    spec.geom("table").material = wood.name
    spec.geom("table").rgba = [1, 1, 1, 1]
    glaze = spec.add_material(name="glaze", specular=0.5, shininess=0.6)
    body = BODY_COLOURS[task.key % len(BODY_COLOURS)]
    for slot, colour in enumerate((PART_COLOUR, body, body)):
        spec.geom(f"object{slot}").material = glaze.name
        spec.geom(f"object{slot}").rgba = [*colour, 1]


@cache
def _planks(size: int = 512, boards: int = 4) -> np.ndarray:
    """[size, size, 3] uint8: boards of pale wood, each with its own tone and grain along x."""
    rng = np.random.default_rng(4)
    width = size // boards
    across, along = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    board = across // width
    tone = rng.uniform(-0.05, 0.05, boards)[board]
    waves = sum(
        np.sin(
            2
            * np.pi
            * (across * cycles + 6 * np.sin(2 * np.pi * along / size + phase[board]) + 40 * phase[board])
            / size
        )
        for cycles, phase in (
            (19, rng.uniform(0, 6, boards)),
            (47, rng.uniform(0, 6, boards)),
            (90, rng.uniform(0, 6, boards)),
        )
    )
    edge = np.minimum(across % width, width - 1 - across % width) < 1.5
    shade = 1 + tone + 0.018 * waves + rng.normal(0, 0.008, (size, size)) - 0.22 * edge
    return np.clip(255 * shade[..., None] * np.array([0.74, 0.66, 0.56]), 0, 255).astype(np.uint8)


def _light(spec: mujoco.MjSpec) -> None:
    key = spec.worldbody.add_light(name="key", pos=[0.5, -0.35, 1.0], castshadow=True)
    key.dir = -np.array(key.pos)
    key.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    key.diffuse, key.specular, key.ambient = [0.62, 0.57, 0.5], [0.3, 0.3, 0.28], [0, 0, 0]
    fill = spec.worldbody.add_light(name="fill", pos=[-0.8, 0.2, 0.9], castshadow=False)
    fill.dir = -np.array(fill.pos)
    fill.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    fill.diffuse, fill.specular, fill.ambient = [0.14, 0.17, 0.22], [0, 0, 0], [0, 0, 0]


def _film(spec: mujoco.MjSpec) -> None:
    position, target = np.array([0.34, -0.42, 0.5]), np.array([0.0, 0.0, 0.085])
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([right, np.cross(back, right), back], axis=1).flatten())
    spec.worldbody.add_camera(name="film", pos=position, quat=quat, fovy=36)
