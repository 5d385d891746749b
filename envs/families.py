"""The families by name. Each is imported when it is asked for."""

from __future__ import annotations

import difflib
import re
from importlib import import_module
from typing import Any

from envs.errors import UserError
from envs.task import TaskFamily

FAMILIES = {
    "grasp": "envs.grasp:GraspFamily",
    "terrain": "envs.terrain:TerrainFamily",
    "terrain-planar": "envs.terrain_planar:PlanarTerrainFamily",
    "bandit": "envs.bandit:BanditFamily",
    "point": "envs.point:PointFamily",
    "cheetah-vel": "envs.cheetah:CheetahVelFamily",
    "cheetah-dir": "envs.cheetah:CheetahDirFamily",
    "cheetah-vel-2017": "envs.cheetah:CheetahVel2017Family",
    "cheetah-dir-2017": "envs.cheetah:CheetahDir2017Family",
    "ant-vel": "envs.ant:AntVelFamily",
    "ant-dir": "envs.ant:AntDirFamily",
}
# Arms x pulls, for other numbers than those of `bandit`.
BANDIT = re.compile(r"bandit-([1-9]\d{0,17})x([1-9]\d{0,17})", re.ASCII)


def make_family(name: str) -> TaskFamily[Any]:
    """The family of that name; `bandit-KxN` is the bandit of K arms and N pulls. Raises `UserError` for any other."""
    settings: tuple[int, ...] = ()
    if sized := BANDIT.fullmatch(name):
        name, settings = "bandit", (int(sized[1]), int(sized[2]))
    if name not in FAMILIES:
        close = difflib.get_close_matches(name, FAMILIES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(FAMILIES)}"
        raise UserError(f"no family is called '{name}': {hint}")
    module, _, attribute = FAMILIES[name].partition(":")
    family: TaskFamily[Any] = getattr(import_module(module), attribute)(*settings)
    return family
