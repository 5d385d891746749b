"""Which files a robot file may have: those that MuJoCo opens, where they lie in its folder. All else is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from PIL import Image

import quickstudy
from envs import user_model_child
from envs.errors import UserError
from envs.user_model import load_model as load

BOX = "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1)) + "f 1 2 3\n"
TEXTURE = "<asset><texture name='t' type='2d' file='{}'/></asset>"
MESH = "<asset><mesh name='m' file='{}' inertia='convex'/></asset>"


def load_model(path: Path, **settings: Any) -> mujoco.MjModel:
    """With time enough for a machine that is busy."""
    return load(path, **{"seconds": 60, **settings})


def write(path: Path, content: str) -> Path:
    """A picture, a mesh, or MJCF with `content` in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.new("RGB", (4, 4), content).save(path)
    else:
        path.write_text(BOX if path.suffix == ".obj" else f"<mujoco>{content}</mujoco>")
    return path


def saved(model: mujoco.MjModel) -> bytes:
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def as_mujoco(path: Path) -> bytes:
    return saved(mujoco.mj_embedAssets(mujoco.MjModel.from_xml_path(str(path))))


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    """A robot's folder, with a picture of somebody else's beside it."""
    write(tmp_path / "private" / "t.png", "red")
    write(tmp_path / "private" / "m.obj", "")
    write(tmp_path / "private" / "p.xml", "<custom><text name='secret' data='1'/></custom>")
    return tmp_path / "robot"


CUBE = "<asset><texture name='t' type='cube' fileup='{}'/></asset>"
FIELD = "<asset><hfield name='h' size='1 1 1 1' file='{}'/></asset>"
BY_REFERENCE = "<asset><texture name='t' type='2d' file='{}' embed='false'/></asset>"
ANOTHER_MODEL = "<asset><model name='s' file='{}'/></asset>"


@pytest.mark.parametrize(
    ("link", "part", "name"),
    [
        ("file", TEXTURE, "t.png"),
        ("file", CUBE, "t.png"),
        ("file", BY_REFERENCE, "t.png"),
        ("file", MESH, "m.obj"),
        ("file", FIELD, "t.png"),
        ("file", "<include file='{}'/>", "p.xml"),
        ("file", ANOTHER_MODEL, "p.xml"),
        ("folder", TEXTURE, "t.png"),
        ("folder above", TEXTURE, "t.png"),
    ],
)
def test_a_link_beside_an_included_part_leads_nowhere(robot: Path, link: str, part: str, name: str) -> None:
    private = robot.parent / "private"
    (robot / "arm").mkdir(parents=True)
    if link == "file":
        (robot / "arm" / name).symlink_to(private / name)
    elif link == "folder":
        (robot / "arm" / "in").symlink_to(private)
        part = part.replace("{}", "in/{}")
    else:
        (robot / "arm").rmdir()
        (robot / "real").mkdir()
        (robot / "real" / "deep").symlink_to(private)
        (robot / "arm").symlink_to("real")
        part = part.replace("{}", "deep/{}")
    write(robot / "arm" / "a.xml", part.format(name))
    path = write(robot / "robot.xml", "<include file='arm/a.xml'/>")
    with pytest.raises(UserError, match=f"its file '.*{name}' .*lies outside") as raised:
        load_model(path)
    assert str(private) in str(raised.value)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../../../../../../../../etc/passwd"])
def test_a_name_that_leads_out_leads_nowhere(robot: Path, name: str) -> None:
    path = write(robot / "robot.xml", f"<asset><hfield name='h' size='1 1 1 1' file='{name}'/></asset>")
    with pytest.raises(UserError, match="etc/passwd' lies outside"):
        load_model(path)


def test_a_name_of_any_letters_is_said_in_one_line(robot: Path) -> None:
    (robot / "arm").mkdir(parents=True)
    (robot / "arm" / "\x1b[31m\x85.png").symlink_to(robot.parent / "private" / "t.png")
    path = write(robot / "robot.xml", TEXTURE.format("arm/\x1b[31m\x85.png"))
    with pytest.raises(UserError, match="lies outside") as raised:
        load_model(path)
    assert str(raised.value).isprintable()


def test_a_pipe_beside_an_included_part_is_not_waited_for(robot: Path) -> None:
    write(robot / "arm" / "a.xml", TEXTURE.format("pipe.png"))
    os.mkfifo(robot / "arm" / "pipe.png")
    path = write(robot / "robot.xml", "<include file='arm/a.xml'/>")
    with pytest.raises(UserError, match=r"its file 'arm/pipe\.png' is not a plain file"):
        load_model(path)


def test_the_process_that_compiles_cannot_open_a_file(tmp_path: Path) -> None:
    write(tmp_path / "robot.xml", "")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import mujoco, user_model_child\n"
        "user_model_child.limit(20, 512)\n"
        "try: open(sys.argv[2])\n"
        "except OSError as error: print(error.strerror)\n"
        "try: mujoco.MjModel.from_xml_path(sys.argv[2])\n"
        "except ValueError as error: print('MuJoCo:', error)\n"
    )
    folder = Path(user_model_child.__file__).parent
    command = [sys.executable, "-I", "-c", script, str(folder), str(tmp_path / "robot.xml")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == "Too many open files"
    assert said[1].startswith("MuJoCo: ")


def test_what_mujoco_finds_in_the_folder_is_found(robot: Path) -> None:
    """Each of these was refused, or looked for elsewhere, by a check that guessed where MuJoCo looks."""
    for n, place in enumerate(("", "arm", "arm/skin", "meshes", "pictures")):
        write(robot / place / "t.png", f"#{n}00000")
        write(robot / place / "m.obj", "")
    write(robot / "arm" / "neighbour.xml", "<custom><text name='n' data='1'/></custom>")
    write(robot / "arm" / "b.xml", TEXTURE.format("skin/t.png"))
    write(robot / "arm" / "a.xml", "<include file='neighbour.xml'/><include file='b.xml'/>")
    (robot / "linked").symlink_to("arm/skin")
    write(robot / "arm" / "c.xml", "<compiler texturedir='../pictures'/>" + TEXTURE.format("../linked/t.png"))
    write(robot / "arm" / "override.xml", "<compiler meshdir='meshes'/>")
    layouts = {
        "neighbour": "<include file='arm/a.xml'/>",
        "staying inside": "<compiler meshdir='arm/../meshes'/>" + MESH.format("../meshes/m.obj"),
        "from within": "<include file='arm/c.xml'/>",
        "two folders": "<compiler meshdir='meshes' assetdir='pictures'/>"
        + TEXTURE.format("t.png")
        + MESH.format("m.obj"),
        "overridden": "<compiler meshdir='nowhere'/><include file='arm/override.xml'/>" + MESH.format("m.obj"),
        "strippath": "<compiler strippath='true'/>" + TEXTURE.format("/home/someone/t.png"),
        "absolute": TEXTURE.format(robot / "arm" / "t.png"),
        "by reference": TEXTURE.format("arm/t.png").replace("/>", " embed='false'/>", 1),
        "passed through": "<compiler passthrough='textures'/>" + TEXTURE.format("arm/t.png"),
    }
    for name, content in layouts.items():
        path = write(robot / f"robot {name}.xml", content)
        assert saved(load_model(path)) == as_mujoco(path), name


def test_a_model_hub_keeps_files_as_links_into_its_store(tmp_path: Path) -> None:
    """models--x/snapshots/1/robot.xml -> ../../blobs/7c1e: names hold where the link stands."""
    hub, private = tmp_path / "models--x", write(tmp_path / "private" / "t.png", "red")
    snapshot, blobs = hub / "snapshots" / "1", hub / "blobs"
    (snapshot / "meshes").mkdir(parents=True)
    content = "<compiler meshdir='meshes'/>" + MESH.format("m.obj") + TEXTURE.format("t.png")
    for name, blob in (("robot.xml", content), ("meshes/m.obj", ""), ("t.png", "blue")):
        file = write(blobs / Path(name).name, blob)
        file = file.rename(blobs / file.name.replace(".", "0"))
        (snapshot / name).symlink_to(os.path.relpath(file, (snapshot / name).parent))
    assert saved(load_model(snapshot / "robot.xml")) == as_mujoco(snapshot / "robot.xml")

    (snapshot / "t.png").unlink()
    (snapshot / "t.png").symlink_to(private)
    with pytest.raises(UserError, match="lies outside"):
        load_model(snapshot / "robot.xml")
    assert load_model(snapshot / "robot.xml", root=tmp_path).ntex == 1


def test_a_link_opens_no_folder_that_holds_the_robot(robot: Path) -> None:
    """As when an archive of links is unpacked among other downloads."""
    downloads = robot.parent
    write(downloads / "private.png", "red")
    write(downloads / "innocent.xml", TEXTURE.format("t.png"))
    robot.mkdir()
    (robot / "robot.xml").symlink_to("../innocent.xml")
    (robot / "t.png").symlink_to("../private.png")
    with pytest.raises(UserError, match="lies outside"):
        load_model(robot / "robot.xml")


def test_a_root_folder_holds_the_robot_and_its_files(robot: Path) -> None:
    write(robot / "meshes" / "m.obj", "")
    path = write(robot / "mjcf" / "robot.xml", "<compiler meshdir='../meshes'/>" + MESH.format("m.obj"))
    with pytest.raises(UserError, match="name a folder that holds both as root"):
        load_model(path)
    assert saved(load_model(path, root=robot)) == as_mujoco(path)
    with pytest.raises(UserError, match="does not lie in the root folder"):
        load_model(path, root=robot / "meshes")


def test_urdf_is_loaded_as_mujoco_compiles_it(robot: Path) -> None:
    write(robot / "m.obj", "")
    inertia = "<inertia ixx='1' iyy='1' izz='1' ixy='0' ixz='0' iyz='0'/>"
    link = f"<inertial><mass value='1'/>{inertia}</inertial>"
    shape = "<collision><geometry><box size='1 1 1'/></geometry></collision>"
    joint = "<joint name='j' type='continuous'><parent link='a'/><child link='b'/><axis xyz='0 0 1'/></joint>"
    path = robot / "robot.urdf"
    path.write_text(
        f"<robot name='r'><link name='a'>{link}{shape}</link><link name='b'>{link}{shape}</link>{joint}</robot>"
    )
    model = load_model(path)
    assert (model.njnt, model.ngeom) == (1, 2)
    assert saved(model) == as_mujoco(path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("robot.mjb", "is a compiled model"),
        ("robot.mjz", "is an archive: unpack it"),
        ("robot.usda", "is a USD scene"),
        ("robot.urdf.xacro", "is a template: expand it with xacro"),
        ("robot.stl", "is a mesh"),
        ("some/robot", "does not end in .xml, .mjcf, .urdf"),
        (".", "is a folder: name the model file in it, such as walker.xml"),
        ("grasp.xml", "No such file"),
    ],
)
def test_every_name_of_a_file_is_answered_as_a_file(
    robot: Path, name: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(robot / "walker.xml", "")
    monkeypatch.chdir(robot)
    assert quickstudy.main(["preview", name]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "family" not in said
    assert len(said.splitlines()) == 1


def test_a_family_has_no_root_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert quickstudy.main(["preview", "grasp", "--root", "."]) == 2
    assert "--root is for a robot file" in capsys.readouterr().err


def test_reserved_memory_is_not_taken_memory(robot: Path) -> None:
    """dm_control's rodent reserves 3.2 GB by njmax and nconmax, and holds 57 MB."""
    body = "".join(f"<body pos='{3 * n} 0 0'><freejoint/><geom size='1'/></body>" for n in range(11))
    path = write(robot / "robot.xml", f"<size njmax='8000' nconmax='4000'/><worldbody>{body}</worldbody>")
    model = load_model(path)
    assert model.narena > 2**30
    path = write(robot / "robot.xml", f"<size memory='3G'/><worldbody>{body}</worldbody>")
    assert load_model(path, memory_mb=256).narena == 3 * 2**30


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        ("<size memory='500G'/>", "reserves more than the 4096 MB of memory that quickstudy allows"),
        (
            "<asset><texture name='t' type='2d' builtin='checker' width='9500' height='9500'/></asset>",
            "takes more than the 256 MB of memory that quickstudy allows",
        ),
    ],
)
def test_the_line_says_whose_limit_it_is(robot: Path, inside: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_model(write(robot / "robot.xml", inside), memory_mb=256)
