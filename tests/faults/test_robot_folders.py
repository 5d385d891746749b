"""Whatever the layout of a robot's folder, what is read is what MuJoCo would read there, and nothing outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from robot_layouts import Layout, lies_inside

from envs import user_model_child
from envs.errors import UserError
from envs.user_model_files import RobotFiles


class Here:
    """The parent of `Compiler` in this very process."""

    def __init__(self, files: RobotFiles) -> None:
        self._files = files
        self.outside = ""  # why the first file that it refused may not be read

    def exists(self, name: bytes) -> bool:
        return self._files.exists(name)

    def read(self, name: bytes) -> bytes:
        try:
            with self._files.open(name, most=10**8) as file:
                return file.read()
        except UserError as error:
            self.outside = self.outside or str(error)
            return b""


def compiled(path: Path) -> bytes:
    """What MuJoCo makes of a file through the parent's eyes. Raises `UserError` or the child's `Refused`."""
    here: Any = Here(RobotFiles(path))
    library = next(Path(mujoco.__file__).parent.glob("libmujoco*"))
    try:
        return user_model_child.Compiler(library, here).compile(str(path)).tobytes()
    finally:
        if here.outside:
            raise UserError(here.outside)


def expected(path: Path) -> bytes:
    """What MuJoCo makes of a file by itself, with every texture in it."""
    model = mujoco.mj_embedAssets(mujoco.MjModel.from_xml_path(str(path)))
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def test_layouts(tmp_path: Path, cases: Callable[[int, int], int], figure: Callable[[str, str], None]) -> None:
    """The same bytes where MuJoCo reads only what lies in the folder; nothing where it would read elsewhere."""
    seen: Counter[str] = Counter()
    count = cases(60, 800)
    for number in range(count):
        layout = Layout(tmp_path / str(number), np.random.default_rng([7, number]))
        try:
            ours: bytes | None = compiled(layout.path)
        except (UserError, user_model_child.Refused):
            ours = None
        try:
            theirs: bytes | None = expected(layout.path)
        except (ValueError, mujoco.FatalError):
            theirs = None
        if theirs is None:
            seen["broken"] += 1
            assert ours is None, number
        elif lies_inside(layout.path, theirs):
            seen["loaded"] += 1
            assert ours == theirs, number
        else:
            seen["outside"] += 1
            assert ours is None, number
    assert min(seen[kind] for kind in ("broken", "loaded", "outside")) >= count // 20, seen
    figure(
        "random folders of robot files",
        f"{count} of {count} as MuJoCo reads them ({seen['loaded']}) or one line ({seen['broken']} that MuJoCo "
        f"does not load, {seen['outside']} that it would load from outside)",
    )
