"""A robot file of a user's own: loaded as MuJoCo would, described and drawn, or refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import mujoco
import numpy as np
import pytest
from PIL import Image

import assets
import quickstudy
from envs.errors import UserError
from envs.user_model import load_model as load


def load_model(path: str | os.PathLike[str]) -> mujoco.MjModel:
    """With time enough for a machine that is busy."""
    return load(path, seconds=60)


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        ("<worldbody><geom size='1' colour='red'/></worldbody>", "unrecognized attribute: 'colour'"),
        ("<worldbody><geom size='1'></worldbody>", "XML_ERROR_MISMATCHED_ELEMENT ErrorID=14 (0xe) Line number=1"),
        ("<include file='arm.xml'/>", "Error opening file 'arm.xml' Element 'include', line 1"),
        ("<asset><mesh name='m' file='m.stl'/></asset>", "m.stl"),
        ("<option gravity='0 0 1e12'/><worldbody><body><freejoint/><geom size='1'/></body></worldbody>", "QACC"),
        ("<worldbody><site name='s'/></worldbody><sensor><user dim='200000'/></sensor>", "its nsensordata is 200000"),
    ],
)
def test_the_line_says_what_is_wrong(tmp_path: Path, inside: str, says: str) -> None:
    path = tmp_path / "robot.xml"
    path.write_text(f"<mujoco>{inside}</mujoco>")
    with pytest.raises(UserError) as raised:
        load_model(path)
    assert says in str(raised.value)


def test_what_it_loads_is_what_mujoco_compiles(tmp_path: Path) -> None:
    """With includes, and meshes in a folder of their own."""
    (tmp_path / "meshes").mkdir()
    points = "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1))
    (tmp_path / "meshes" / "box.obj").write_text(points + "f 1 2 3\n")
    (tmp_path / "arm.xml").write_text(
        "<mujoco><asset><mesh name='box' file='box.obj' inertia='convex'/></asset></mujoco>"
    )
    path = tmp_path / "robot.mjcf"
    body = "<body><freejoint/><geom type='mesh' mesh='box' mass='2'/></body>"
    path.write_text(
        f"<mujoco><compiler meshdir='meshes'/><include file='arm.xml'/><worldbody>{body}</worldbody></mujoco>"
    )
    model, expected = load_model(path), mujoco.MjModel.from_xml_path(str(path))
    buffers = [np.empty(mujoco.mj_sizeModel(m), np.uint8) for m in (model, expected)]
    for m, buffer in zip((model, expected), buffers, strict=True):
        mujoco.mj_saveModel(m, None, buffer)
    assert buffers[0].tobytes() == buffers[1].tobytes()


def test_a_fault_of_the_child_is_no_mistake_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "robot.xml").write_text("<mujoco/>")
    (tmp_path / "child.py").write_text("import no_such_module")
    monkeypatch.setattr("envs.user_model_child.__file__", str(tmp_path / "child.py"))
    with pytest.raises(RuntimeError, match="no_such_module"):
        load_model(tmp_path / "robot.xml")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere.xml", "No such file"),
        ("robot.txt", "does not end in .xml, .mjcf, .urdf"),
        ("folder.xml", "is a folder"),
        ("pipe.xml", "is not a plain file"),
    ],
)
def test_what_is_no_robot_file_is_not_opened(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder.xml").mkdir()
    os.mkfifo(tmp_path / "pipe.xml")
    with pytest.raises(UserError, match=says):
        load_model(tmp_path / name)


def test_a_robot_may_be_reached_by_a_link_or_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "robot.xml").symlink_to(assets.path("hand.xml"))
    monkeypatch.chdir(tmp_path)
    assert load_model("robot.xml").nu == load_model(assets.path("hand.xml")).nu


@pytest.mark.usefixtures("drawing")
def test_preview_of_a_robot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "robot.png"
    assert quickstudy.main(["preview", str(assets.path("quadruped.xml")), "--out", str(out)]) == 0
    table = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[:-1])
    model = mujoco.MjModel.from_xml_path(str(assets.path("quadruped.xml")))
    assert (table["bodies"], table["actuators"]) == (str(model.nbody - 1), str(model.nu))
    assert float(table["mass"].split()[0]) == pytest.approx(model.body_mass.sum(), rel=1e-3)
    assert float(table["speed"].split()[0]) > 100
    assert np.asarray(Image.open(out)).std() > 10
    assert quickstudy.main(["preview", str(assets.path("quadruped.xml")), "--out", str(out)]) == 2


@pytest.mark.usefixtures("drawing")
def test_what_ends_mujocos_renderer_ends_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MuJoCo does not raise there, it ends its process."""
    path = tmp_path / "robot.xml"
    path.write_text(
        "<mujoco><statistic extent='1e-300' center='1e300 0 0'/><worldbody><geom size='1'/></worldbody></mujoco>"
    )
    assert quickstudy.main(["preview", str(path), "--out", str(tmp_path / "robot.png")]) == 2
    said = capsys.readouterr()
    assert "timestep" in said.out
    assert "MuJoCo cannot draw robot.xml (ERROR" in said.err
    assert [file.name for file in tmp_path.iterdir()] == ["robot.xml"]


def test_without_opengl_the_table_is_printed_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    out = tmp_path / "robot.png"
    assert quickstudy.main(["preview", str(assets.path("hand.xml")), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert "actuators" in said.out
    assert "MUJOCO_GL" in said.err
    assert not out.exists()


def test_a_robot_has_no_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert quickstudy.main(["preview", "robot.xml", "--scripted"]) == 2
    assert "has no tasks" in capsys.readouterr().err
