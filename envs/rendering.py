"""Pictures of a task, without a screen."""

from __future__ import annotations

import ctypes.util
import os
import sys
import warnings
from types import TracebackType
from typing import Any

import mujoco
import numpy as np
from mujoco.rendering.classic import gl_context

from envs import CHOSEN_GL
from envs.errors import UserError
from envs.task import Task, TaskFamily

SHADOW_PIXELS = 2048  # of a shadow map's side at most: on a processor, twice that takes half as long again

INSTALL_HINT = "install Mesa's EGL (on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri)"


class RenderingError(UserError):
    """This machine cannot draw a picture as it stands."""


def rendering_backend() -> str:
    """The OpenGL backend that pictures are drawn with: `egl`, `osmesa`, `glfw` or `cgl`; chosen once per process.

    The user's MUJOCO_GL is respected. Without it, Linux takes the first that is installed of EGL and OSMesa, which need
    no screen, and a window system only where neither is there. Raises `RenderingError` where there is nothing to draw
    with.
    """
    chosen = os.environ.get("MUJOCO_GL", CHOSEN_GL).lower().strip()
    if chosen in ("disable", "disabled", "off", "false", "0"):
        raise RenderingError(f"rendering is switched off by MUJOCO_GL={chosen}: unset it, or set MUJOCO_GL=egl")
    if chosen in ("egl", "osmesa", "glfw", "cgl"):
        return chosen
    if chosen not in ("", "enable", "enabled", "on", "true", "1", "glx"):
        raise RenderingError(f"MUJOCO_GL={chosen} is no OpenGL backend: unset it, or set MUJOCO_GL=egl")
    if sys.platform != "linux":
        return "cgl" if sys.platform == "darwin" else "glfw"
    for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if ctypes.util.find_library(library):
            return name
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return "glfw"
    raise RenderingError(f"no OpenGL library that draws without a screen is installed: {INSTALL_HINT}")


def select_backend() -> str:
    """Make MuJoCo draw with `rendering_backend()`; returns its name.

    MuJoCo reads MUJOCO_GL when it is first imported, long before anyone asks for a picture, so the context class is set
    where its renderer looks it up.
    """
    name = rendering_backend()
    try:
        if name == "egl":
            from mujoco.egl import GLContext
        elif name == "osmesa":
            from mujoco.osmesa import GLContext
        else:
            return name
    except (ImportError, AttributeError, OSError) as error:
        raise RenderingError(f"the OpenGL backend '{name}' cannot be loaded ({_line(error)}): {INSTALL_HINT}") from None
    gl_context.GLContext = GLContext
    return name


def open_renderer(model: mujoco.MjModel, width: int, height: int, *, shadows: bool = True) -> mujoco.Renderer:
    """A renderer of frames of width x height pixels; it raises the model's own limits to that.

    Raises `RenderingError` where no OpenGL backend works.
    """
    backend = select_backend()
    model.vis.global_.offwidth = max(width, model.vis.global_.offwidth)
    model.vis.global_.offheight = max(height, model.vis.global_.offheight)
    model.vis.quality.shadowsize = min(model.vis.quality.shadowsize, SHADOW_PIXELS)
    try:
        with warnings.catch_warnings(action="ignore"):  # GLFW's, of what the exception says
            renderer = mujoco.Renderer(model, height, width)
    except Exception as error:  # each backend fails in a way of its own: GLFWError, GLError, RuntimeError, ...
        raise RenderingError(
            f"the OpenGL backend '{backend}' does not work here ({_line(error)}): {INSTALL_HINT}, or set MUJOCO_GL"
        ) from None
    renderer.scene.flags[int(mujoco.mjtRndFlag.mjRND_SHADOW)] = shadows
    return renderer


class TaskRenderer:
    """Draws one task of a family, given its positions; a context manager.

    Each task needs a renderer of its own: a changed height field is not drawn again by an old one.

    width, height: of a frame, in pixels.
    shadows: softer and more solid pictures, two to three times slower where the processor does the drawing.
    Raises `RenderingError` where no OpenGL backend works.
    """

    def __init__(
        self, family: TaskFamily[Any], task: Task, width: int = 640, height: int = 480, *, shadows: bool = True
    ) -> None:
        rendering_backend()
        self.model = family.model(task, visual=True)
        self._data = mujoco.MjData(self.model)
        self._camera = family.camera
        self._renderer = open_renderer(self.model, width, height, shadows=shadows)

    def frame(self, qpos: np.ndarray) -> np.ndarray:
        """The task with joint positions qpos [nq], seen by the family's camera: uint8 [height, width, 3]."""
        data = self._data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)  # a camera that follows the centre of mass needs it
        mujoco.mj_camlight(self.model, data)
        mujoco.mj_tendon(self.model, data)
        self._renderer.update_scene(data, self._camera)
        return np.asarray(self._renderer.render())

    def between(self, before: np.ndarray, after: np.ndarray, fraction: float) -> np.ndarray:
        """Positions [nq] on the way from one state to the next: straight lines, and the shortest turn for rotations."""
        step = np.zeros(self.model.nv)
        mujoco.mj_differentiatePos(self.model, step, 1.0, np.asarray(before, float), np.asarray(after, float))
        qpos = np.array(before, dtype=float)
        mujoco.mj_integratePos(self.model, qpos, step, fraction)
        return qpos

    def close(self) -> None:
        """Free the OpenGL context. Closing twice is fine."""
        self._renderer.close()

    def __enter__(self) -> TaskRenderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _line(error: BaseException) -> str:
    """An exception in one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
