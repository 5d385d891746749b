"""How a terrain course looks in previews and films. Nothing here has a part in the physics."""

from __future__ import annotations

import mujoco
import numpy as np

from envs.course import CELL, COLUMNS, FIELD_X, FIELD_Y, FINISH_X, ROWS, Course

EYE, TARGET, FIELD_OF_VIEW = np.array([-2.6, -3.3, 3.3]), np.array([1.45, 0.1, -0.35]), 45.0  # m, m, degrees
TEXELS_PER_METRE = 160
LOW_COLOR, HIGH_COLOR = np.array([0.20, 0.36, 0.38]), np.array([0.72, 0.74, 0.56])
PIT_COLOR, RIM_COLOR = np.array([0.07, 0.09, 0.13]), np.array([0.23, 0.27, 0.33])
COLORS = {"wall": [0.86, 0.36, 0.29, 1.0], "deck": [0.80, 0.60, 0.36, 1.0], "unused": [0.0, 0.0, 0.0, 0.0]}


def dress(spec: mujoco.MjSpec, course: Course) -> None:
    """Add sky, lights, shadows and colours to the model of a course."""
    quality, headlight = spec.visual.quality, spec.visual.headlight
    quality.shadowsize, quality.offsamples = 4096, 8
    headlight.ambient, headlight.diffuse, headlight.specular = [0.42] * 3, [0.28] * 3, [0.05] * 3
    spec.visual.map.shadowclip = 0.8
    add_sky(spec)
    picture = (255.0 * ground_picture(course)[::-1]).astype(np.uint8)  # a texture's first row lies at the left side
    texture = spec.add_texture(name="ground", type=mujoco.mjtTexture.mjTEXTURE_2D)
    texture.height, texture.width, texture.nchannel = picture.shape
    texture.data = picture.tobytes()
    material = spec.add_material(name="ground", specular=0.05, shininess=0.05, texrepeat=[1, 1])
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    spec.geom("ground").material = "ground"
    for slot, box in enumerate(course.boxes):
        spec.geom(f"box{slot}").rgba = COLORS[box.kind]
    sun = spec.worldbody.add_light(name="sun", pos=[0.5, -2.0, 5.0], dir=[0.25, 0.45, -1.0], castshadow=True)
    sun.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    sun.diffuse, sun.specular = [0.62, 0.60, 0.55], [0.2] * 3


def ground_picture(course: Course) -> np.ndarray:
    """[height, width, 3] colours in 0..1 of the field seen from above: row 0 is the right side, column 0 the start."""
    x = np.linspace(*FIELD_X, round((FIELD_X[1] - FIELD_X[0]) * TEXELS_PER_METRE))
    y = np.linspace(*FIELD_Y, round((FIELD_Y[1] - FIELD_Y[0]) * TEXELS_PER_METRE))
    height, ground = _resample(course.heights, x, y), _resample(course.level, x, y)
    share = (ground - course.level.min()) / max(float(np.ptp(course.level)), 0.1)
    picture = LOW_COLOR + (0.35 + 0.65 * share[..., None]) * (HIGH_COLOR - LOW_COLOR)
    lines = (np.abs((x + 0.25) % 0.5 - 0.25) < 0.006)[None, :] | (np.abs((y + 0.25) % 0.5 - 0.25) < 0.006)[:, None]
    picture[lines] *= 0.86
    start = np.abs(x) < 0.02
    picture[:, start] = 0.92
    band = (x >= FINISH_X) & (x < FINISH_X + 0.24)
    squares = (np.floor((x[band] - FINISH_X) / 0.12)[None, :] + np.floor(y / 0.12)[:, None]) % 2
    picture[:, band] = np.where(squares[..., None] > 0, 0.95, 0.10)
    picture += (PIT_COLOR - picture) * np.clip((ground - height) / 0.12, 0.0, 1.0)[..., None]
    picture += (RIM_COLOR - picture) * np.clip((height - ground) / 0.12, 0.0, 1.0)[..., None]
    return np.clip(picture, 0.0, 1.0)


def add_camera(spec: mujoco.MjSpec) -> None:
    """The `film` camera: from behind and above the start, over the whole course to the finish."""
    back = (EYE - TARGET) / np.linalg.norm(EYE - TARGET)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    camera = spec.worldbody.add_camera(name="film", pos=EYE, fovy=FIELD_OF_VIEW)
    rotation, quat = np.stack([right, up, back], axis=1), np.zeros(4)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    camera.quat = quat
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1280, 960


def _resample(heights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[len(y), len(x)] heights between the points of the grid."""
    u, v = (x - FIELD_X[0]) / CELL, (y - FIELD_Y[0]) / CELL
    rows = np.stack([np.interp(u, np.arange(COLUMNS), row) for row in heights])
    return np.stack([np.interp(v, np.arange(ROWS), column) for column in rows.T], axis=1)


def add_sky(spec: mujoco.MjSpec) -> None:
    """A clear day."""
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.80, 0.88, 0.95],
        rgb2=[0.33, 0.48, 0.66],
        width=256,
        height=1536,
    )
