"""Pictures are drawn without a screen, show what is there, and say what is missing where they cannot be drawn."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
from probes import ProbeFamily, ProbeTask

from envs import rendering
from envs.rendering import RenderingError, TaskRenderer, rendering_backend

pytestmark = pytest.mark.usefixtures("drawing")


def test_frame_shows_the_positions_it_is_given() -> None:
    with TaskRenderer(ProbeFamily(), ProbeTask(0.5), 160, 120) as renderer:
        left, again, right = (renderer.frame(np.array([x])) for x in (-0.8, -0.8, 0.8))
    assert left.shape == (120, 160, 3)
    assert left.dtype == np.uint8
    assert np.array_equal(left, again)
    changed = (left != right).any(axis=(0, 2))  # columns of pixels
    assert changed[:70].any()
    assert changed[90:].any()


def test_frame_shows_the_task() -> None:
    pictures = []
    for goal in (-0.5, 0.5):
        with TaskRenderer(ProbeFamily(), ProbeTask(goal), 160, 120) as renderer:
            pictures.append(renderer.frame(np.zeros(1)))
    assert not np.array_equal(*pictures)


def test_frames_may_be_larger_than_the_model_says() -> None:
    with TaskRenderer(ProbeFamily(), ProbeTask(0.0), 800, 500) as renderer:
        assert renderer.frame(np.zeros(1)).shape == (500, 800, 3)


def test_two_renderers_work_side_by_side() -> None:
    with (
        TaskRenderer(ProbeFamily(), ProbeTask(-0.5), 160, 120) as one,
        TaskRenderer(ProbeFamily(), ProbeTask(0.5), 160, 120) as other,
    ):
        first = one.frame(np.zeros(1))
        other.frame(np.zeros(1))
        assert np.array_equal(one.frame(np.zeros(1)), first)


class FreeBody(ProbeFamily):
    """A body that may turn any way."""

    def model(self, task: ProbeTask, visual: bool = False) -> mujoco.MjModel:
        body = '<body><freejoint/><geom size="0.1"/></body><camera name="film" pos="0 0 1"/>'
        return mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{body}</worldbody></mujoco>")


def test_between_turns_by_the_shortest_way_and_keeps_rotations_rotations() -> None:
    before = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    after = np.array([2.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])  # half a turn about z
    with TaskRenderer(FreeBody(), ProbeTask(0.0), 32, 32) as renderer:
        half = renderer.between(before, after, 0.5)
        assert np.allclose(renderer.between(before, after, 0.0), before)
        assert np.allclose(np.abs(renderer.between(before, after, 1.0)), np.abs(after), atol=1e-12)
    assert np.allclose(half[:3], [1.0, 0.0, 0.0])
    assert np.allclose(np.abs(half[3:]), [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system always has a backend")
class TestBackend:
    def test_the_users_choice_is_respected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MUJOCO_GL", "OSMesa ")
        assert rendering_backend() == "osmesa"

    def test_a_screenless_backend_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MUJOCO_GL", raising=False)
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: "lib" if name == "EGL" else None)
        assert rendering_backend() == "egl"
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: "lib" if name == "OSMesa" else None)
        assert rendering_backend() == "osmesa"
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
        assert rendering_backend() == "glfw"

    def test_nothing_to_draw_with_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
        with pytest.raises(RenderingError, match="libegl1"):
            TaskRenderer(ProbeFamily(), ProbeTask(0.0))

    def test_switched_off_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MUJOCO_GL", "disable")
        with pytest.raises(RenderingError, match="MUJOCO_GL"):
            TaskRenderer(ProbeFamily(), ProbeTask(0.0))

    def test_a_backend_that_fails_is_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken:
            def __init__(self, width: int, height: int) -> None:
                raise RuntimeError("no device\nat all")

        monkeypatch.setenv("MUJOCO_GL", "glfw")
        monkeypatch.setattr(rendering.gl_context, "GLContext", Broken)
        with pytest.raises(RenderingError, match="'glfw' does not work here") as raised:
            TaskRenderer(ProbeFamily(), ProbeTask(0.0))
        assert "\n" not in str(raised.value)


def test_a_process_that_drew_ends_silently() -> None:
    code = (
        "import sys; sys.path[:0] = ['.', 'tests']\n"
        "import numpy as np\n"
        "from probes import ProbeFamily, ProbeTask\n"
        "from envs.rendering import TaskRenderer\n"
        "renderer = TaskRenderer(ProbeFamily(), ProbeTask(0.0), 32, 32)\n"
        "renderer.frame(np.zeros(1))\n"
        "with TaskRenderer(ProbeFamily(), ProbeTask(0.5), 32, 32) as other: other.frame(np.zeros(1))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
