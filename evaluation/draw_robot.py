"""Draws a compiled model in a process of its own: MuJoCo's renderer ends the process where a model is absurd.

Run by `evaluation/preview_robot.py` alone. Arguments: width, height, seconds. Standard input is the compiled model. It
exits with 0 and the frame on standard output, uint8 [height, width, 3]; with `CANNOT_DRAW` and what this machine lacks
there; with `FAULT` and a traceback on standard error for a fault in here; in any other way where MuJoCo gave up.
"""

import os
import signal
import sys
import traceback
from pathlib import Path

CANNOT_DRAW, FAULT = 3, 70
QUALITY = ("shadowsize", "offsamples", "numslices", "numstacks", "numquads")


def draw(compiled: bytes, width: int, height: int) -> bytes:
    """The state in which the model begins, through its first camera, or a free one that sees all of it."""
    import mujoco
    import numpy as np

    from envs.rendering import open_renderer

    quiet = mujoco.MjLogConfig.get()
    quiet.logto_file = False
    quiet.set()
    model = mujoco.MjModel.from_binary_path("robot.mjb", {"robot.mjb": compiled})
    usual = mujoco.MjModel.from_xml_string("<mujoco/>").vis.quality
    for setting in QUALITY:  # absurd ones take all memory, or for ever
        setattr(model.vis.quality, setting, getattr(usual, setting))
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    if model.ncam:
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
    renderer = open_renderer(model, width, height)
    try:
        renderer.update_scene(data, camera)
        return np.asarray(renderer.render()).tobytes()
    except (mujoco.FatalError, mujoco.UnexpectedError) as error:
        sys.exit(f"ERROR {error}")


def main(width: int, height: int, seconds: int) -> int:
    """Returns the exit code."""
    signal.alarm(seconds + 2)  # ends this process where its parent is gone
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no part of the answer
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from envs.errors import UserError

    try:
        answer.write(draw(sys.stdin.buffer.read(), width, height))
    except UserError as error:
        answer.write(str(error).encode(errors="replace"))
        answer.flush()
        return CANNOT_DRAW
    answer.flush()
    return 0


if __name__ == "__main__":
    code = FAULT
    try:
        code = main(*map(int, sys.argv[1:]))
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)
