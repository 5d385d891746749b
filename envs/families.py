"""The families by name. Each is imported when it is asked for."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from envs.errors import UserError
from envs.task import TaskFamily

FAMILIES = {
    "grasp": "envs.grasp:GraspFamily",
    "terrain": "envs.terrain:TerrainFamily",
    "terrain-planar": "envs.terrain_planar:PlanarTerrainFamily",
}


def make_family(name: str) -> TaskFamily[Any]:
    """The family of that name. Raises `UserError` for a name that is none."""
    if name not in FAMILIES:
        close = difflib.get_close_matches(name, FAMILIES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(FAMILIES)}"
        raise UserError(f"no family is called '{name}': {hint}")
    module, _, attribute = FAMILIES[name].partition(":")
    family: TaskFamily[Any] = getattr(import_module(module), attribute)()
    return family
