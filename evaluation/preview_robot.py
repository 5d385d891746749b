"""A robot file at a glance: what is in it, how fast it simulates, and a picture of how it begins."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from envs.errors import UserError
from envs.rendering import RenderingError, rendering_backend
from envs.user_model_child import STEPS
from evaluation import draw_robot
from evaluation.preview import GAP, INK, PAPER, SOFT, check_picture, save_picture
from evaluation.style import font

FRAME = (800, 600)  # pixels
SECONDS = 0.5  # for which the speed is measured
DRAW_SECONDS = 20


def robot_table(model: mujoco.MjModel) -> list[tuple[str, str]]:
    """What is in a model, as names and values; mass in kg, speed with one thread on this machine."""
    data = mujoco.MjData(model)
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        mujoco.mj_resetData(model, data)
        for _ in range(STEPS):  # which have been tried: no warning, no hang
            mujoco.mj_step(model, data)
        steps += STEPS
    speed = steps / (time.perf_counter() - begin)
    return [
        ("bodies", f"{model.nbody - 1}"),
        ("joints", f"{model.njnt}, of {model.nv} degrees of freedom"),
        ("actuators", f"{model.nu}"),
        ("sensors", f"{model.nsensor}, of {model.nsensordata} numbers"),
        ("cameras", f"{model.ncam}"),
        ("timestep", f"{model.opt.timestep:g} s"),
        ("mass", f"{model.body_mass.sum():.4g} kg"),
        ("speed", f"{speed:.3g} steps a second, {speed * model.opt.timestep:.3g} times real time, one thread"),
    ]


def robot_picture(model: mujoco.MjModel, name: str) -> Image.Image:
    """The state in which the model begins, RGB, through its first camera, or a free one that sees all of it.

    Raises `RenderingError` where nothing can be drawn, and `UserError` for a model that MuJoCo cannot draw.
    """
    head = 104
    sheet = Image.new("RGB", (FRAME[0] + 2 * GAP, head + FRAME[1] + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 52), name, font=font(34, bold=True), fill=INK, anchor="ls")
    seen = f"its first camera, {model.camera(0).name or 'without a name'}" if model.ncam else "a free camera"
    draw.text((GAP, 80), f"as it begins, through {seen}", font=font(16), fill=SOFT, anchor="ls")
    sheet.paste(Image.fromarray(_frame(model, name)), (GAP, head))
    return sheet


def _frame(model: mujoco.MjModel, name: str) -> np.ndarray:
    """[height, width, 3] uint8, drawn by a child process."""
    rendering_backend()
    compiled = np.empty(mujoco.mj_sizeModel(model), dtype=np.uint8)
    mujoco.mj_saveModel(model, None, compiled)
    wide, tall = FRAME
    command = [sys.executable, "-I", draw_robot.__file__, str(wide), str(tall), str(DRAW_SECONDS)]
    try:
        child = subprocess.run(
            command, input=compiled.data, capture_output=True, timeout=DRAW_SECONDS, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{name} takes more than {DRAW_SECONDS} s to draw: make it smaller") from None
    if child.returncode == draw_robot.CANNOT_DRAW:
        raise RenderingError(child.stdout.decode(errors="replace"))
    if child.returncode == draw_robot.FAULT:
        raise RuntimeError(f"the process that draws {name} failed: {child.stderr.decode(errors='replace')}")
    if child.returncode != 0:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"MuJoCo cannot draw {name} ({''.join(last) or f'it ends with {child.returncode}'})")
    return np.frombuffer(child.stdout, np.uint8).reshape(tall, wide, 3)


def preview_robot(model: mujoco.MjModel, name: str, out: Path) -> Path:
    """Draw a model into an image file (.png, .jpg or .webp); returns `out`. Raises `UserError`."""
    check_picture(out)
    save_picture(robot_picture(model, name), out)
    return out
