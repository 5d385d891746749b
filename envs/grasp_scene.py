"""What makes a `grasp` model worth looking at. Nothing here has mass or touches anything."""

from __future__ import annotations

import mujoco
import numpy as np

from envs.grasp_objects import GraspTask

# Colours of bodies; the part to hold is always in the one colour that none of them has.
BODY_COLOURS = ((0.2, 0.42, 0.6), (0.26, 0.5, 0.42), (0.45, 0.36, 0.58), (0.6, 0.62, 0.66), (0.24, 0.3, 0.42))
PART_COLOUR = (0.96, 0.72, 0.22)


def dress(spec: mujoco.MjSpec, task: GraspTask) -> None:
    """Add textures, lights, colours and a camera to a grasp model."""
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1280, 960
    spec.visual.quality.shadowsize = 4096
    spec.visual.quality.offsamples = 8
    spec.visual.headlight.ambient = [0.34, 0.34, 0.36]
    spec.visual.headlight.diffuse = [0.28, 0.28, 0.28]
    spec.visual.headlight.specular = [0.05, 0.05, 0.05]
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 30
    spec.stat.center, spec.stat.extent = [0, 0, 0.06], 0.5

    sky = spec.add_texture(name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=256, height=1536)
    sky.builtin = mujoco.mjtBuiltin.mjBUILTIN_GRADIENT
    sky.rgb1, sky.rgb2 = [0.93, 0.9, 0.86], [0.42, 0.5, 0.6]
    board = spec.add_texture(name="board", type=mujoco.mjtTexture.mjTEXTURE_2D, width=512, height=512)
    board.builtin = mujoco.mjtBuiltin.mjBUILTIN_CHECKER
    board.rgb1, board.rgb2 = [0.74, 0.62, 0.49], [0.7, 0.575, 0.44]
    board.mark, board.markrgb = mujoco.mjtMark.mjMARK_EDGE, [0.6, 0.48, 0.36]
    wood = spec.add_material(name="wood", specular=0.2, shininess=0.3, reflectance=0.06, texrepeat=[12, 12])
    wood.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "board"
    spec.geom("table").material = "wood"
    spec.geom("table").rgba = [1, 1, 1, 1]

    glaze = spec.add_material(name="glaze", specular=0.5, shininess=0.6, reflectance=0.0)
    body = BODY_COLOURS[task.key % len(BODY_COLOURS)]
    for slot, colour in enumerate((PART_COLOUR, body, body)):
        geom = spec.geom(f"object{slot}")
        geom.material = glaze.name
        geom.rgba = [*colour, 1]

    key = spec.worldbody.add_light(name="key", pos=[0.5, -0.5, 1.1], castshadow=True)
    key.dir = -np.array(key.pos)
    key.type = mujoco.mjtLightType.mjLIGHT_SPOT
    key.cutoff, key.exponent = 40, 4
    key.diffuse, key.specular, key.ambient = [0.75, 0.7, 0.6], [0.35, 0.33, 0.3], [0, 0, 0]
    fill = spec.worldbody.add_light(name="fill", pos=[-0.8, 0.2, 0.9], castshadow=False)
    fill.dir = -np.array(fill.pos)
    fill.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    fill.diffuse, fill.specular, fill.ambient = [0.16, 0.19, 0.24], [0, 0, 0], [0, 0, 0]

    position, target = np.array([0.36, -0.42, 0.36]), np.array([0.0, 0.0, 0.06])
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    camera = spec.worldbody.add_camera(name="film", pos=position, fovy=40)
    camera.alt.xyaxes = [*right, *np.cross(back, right)]
