"""Random folders of robot files: parts that include each other, settings of where to look, links, ways out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from PIL import Image

POINTS = "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1))
FOLDERS = ("", "arm", "arm/hand", "meshes", "arm/meshes")


class Layout:
    """One random robot in `base/robot`, and beside it `base/other`, which is not its own."""

    def __init__(self, base: Path, rng: np.random.Generator) -> None:
        self.base, self.rng = base, rng
        self.folder = base / "robot"
        for place in (*(self.folder / name for name in FOLDERS), base / "other", base / "meshes"):
            place.mkdir(parents=True, exist_ok=True)
        for n, place in enumerate((*(self.folder / name for name in FOLDERS), base, base / "other", base / "meshes")):
            for name in ("a", "b"):
                if rng.random() < 0.85:
                    _picture(place / f"{name}.png", colour=10 * n + (name == "b"))
                if rng.random() < 0.85:
                    (place / f"{name}.obj").write_text(POINTS.replace("1", str(n + 2)) + "f 1 2 3\n")
        for _ in range(int(rng.integers(0, 3))):
            self._link()
        self.path = self.folder / "robot.xml"
        self._model(self.path, depth=0)

    def _pick(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def _link(self) -> None:
        """From somewhere in the robot to a folder or a file, its own or not."""
        link = self.folder / self._pick(FOLDERS) / self._pick(("link", "a.png", "b.obj", "part0.xml"))
        target = self.base / self._pick(("robot/arm", "robot/meshes", "other", "meshes", "robot/a.png", "other/a.png"))
        link.unlink(missing_ok=True)
        link.symlink_to(target if self.rng.random() < 0.5 else os.path.relpath(target, link.parent))

    def _name(self, suffix: str) -> str:
        name = self._pick(("a", "b")) + suffix
        before = (
            "",
            "",
            "",
            "./",
            "../",
            "arm/",
            "meshes/",
            "../meshes/",
            "link/",
            "arm/../",
            "link/../",
            "arm//hand/",
        )
        before = (*before, "../robot/", "../other/", "../../", f"{self.folder}/arm/", f"{self.base}/other/")
        return self._pick(before) + name

    def _model(self, path: Path, depth: int) -> None:
        folders = ("", "meshes", "arm", "../meshes", "arm/../meshes", "link", "../other", f"{self.folder}/meshes", "./")
        settings = [f"{kind}='{self._pick(folders)}'" for kind in ("meshdir", "texturedir", "assetdir")]
        settings = [setting for setting in settings if self.rng.random() < 0.2]
        if self.rng.random() < 0.15:
            settings.append(f"strippath='{self._pick(('true', 'false'))}'")
        if self.rng.random() < 0.1:
            settings.append("passthrough='textures'")
        inside = f"<compiler {' '.join(settings)}/>" if settings else ""
        for n in range(int(self.rng.integers(0, 3)) if depth < 3 else 0):
            inside += f"<include file='{self._part(path, depth, n)}'/>"
        mark = f"{depth}{len(inside)}{self.rng.integers(10**9)}"
        embed = self._pick(("", "", "", "embed='false'", 'embed = "true"'))
        texture = f"<texture name='t{mark}' type='2d' file='{self._name('.png')}' {embed}/>"
        mesh = f"<mesh name='m{mark}' file='{self._name('.obj')}' inertia='convex'/>"
        assets = "".join(asset for asset in (texture, mesh) if self.rng.random() < 0.5)
        owner = "own" if path.resolve().is_relative_to(self.folder) else "other"
        text = f"<custom><text name='{owner}{mark}' data='{mark}'/></custom>"
        path.write_text(f"<mujoco>{inside}<asset>{assets}</asset>{text}</mujoco>")

    def _part(self, path: Path, depth: int, n: int) -> str:
        """Write a part, in the folder of the model or of the part that includes it; returns how that names it."""
        name = f"part{depth}{n}{self.rng.integers(100)}.xml"
        beside = self._pick((self.folder, path.parent))
        under = self._pick(("", "", "", "arm/", "arm/hand/", "../", "meshes/../", "link/"))
        place = Path(os.path.normpath(beside / (under + name)))
        if place.parent.is_dir() and not place.exists():
            self._model(place, depth + 1)
        return under + name


def lies_inside(path: Path, content: bytes) -> bool:
    """Whether all that a compiled model was made of lies in the folder of the model."""
    model = mujoco.MjModel.from_binary_path("m.mjb", {"m.mjb": content})
    named = [part.decode() for part in model.paths.split(b"\0") if part]
    marks = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_TEXT, n) for n in range(model.ntext)]
    own = all(Path(name).resolve().is_relative_to(path.parent) for name in named)
    return own and all(mark.startswith("own") for mark in marks)


def _picture(path: Path, colour: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (colour, 10, 10)).save(path)
    return path
