"""Height profiles of the ground: pure functions of the horizontal position, shared by every family that walks.

All lengths are metres and all heights are relative to the ground at the start, which is level up to `START_X`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

SurfaceKind = Literal["flat", "slope-up", "slope-down", "stairs", "rough", "waves", "stones"]
SURFACE_KINDS: tuple[SurfaceKind, ...] = get_args(SurfaceKind)

START_X = 0.35  # m, where the level apron ends that every episode starts on
STAIR_RUN = 0.45  # m, depth of a stair
WAVE_LENGTH = 0.9  # m
WAVE_SKEW = 0.35  # rad, how far the crests of waves are turned from the y axis
ROUGH_CELL = 0.16  # m, spacing of the bumps of rough ground
STONE_PITCH = 0.36  # m, spacing of stepping stones
STONE_SHARE = 0.8  # share of the pitch that a stone fills, the rest is the joint between stones
_LATTICE = 64  # lattice points after which rough ground and stones repeat (10 m and 23 m)


def surface_height(
    kind: SurfaceKind, x: np.ndarray, y: np.ndarray, slope_rad: float = 0.0, relief_m: float = 0.0, seed: int = 0
) -> np.ndarray:
    """Height in metres of surface `kind` over positions x, y (metres; any shapes that broadcast).

    slope_rad: steepness of the two slopes, positive for both.
    relief_m: height of a stair; crest to trough of waves and rough ground; depth of the joints between stepping stones.
    seed: which rough ground or which stones; the same seed gives the same heights everywhere.
    """
    x, y = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    return _PROFILES[kind](x, y, slope_rad, relief_m, seed)


def lattice_noise(x: np.ndarray, y: np.ndarray, cell_m: float, seed: int) -> np.ndarray:
    """Smooth noise in [0, 1] with one random value for each lattice cell of `cell_m` metres (periodic)."""
    table = np.random.default_rng([seed, 1]).random((_LATTICE, _LATTICE))
    u, v = x / cell_m, y / cell_m
    i, j = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    fu, fv = _smooth(u - i), _smooth(v - j)
    corner = [[table[(i + a) % _LATTICE, (j + b) % _LATTICE] for b in (0, 1)] for a in (0, 1)]
    near = corner[0][0] * (1 - fv) + corner[0][1] * fv
    far = corner[1][0] * (1 - fv) + corner[1][1] * fv
    return near * (1 - fu) + far * fu


def _smooth(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _fade_in(x: np.ndarray) -> np.ndarray:
    """0 on the apron, 1 from 0.2 m past it."""
    return _smooth((x - START_X) / 0.2)


def _flat(x: np.ndarray, y: np.ndarray, slope_rad: float, relief_m: float, seed: int) -> np.ndarray:
    return np.zeros_like(x)


def _slope_up(x: np.ndarray, y: np.ndarray, slope_rad: float, relief_m: float, seed: int) -> np.ndarray:
    return np.tan(slope_rad) * np.maximum(x - START_X, 0.0)


def _slope_down(x: np.ndarray, y: np.ndarray, slope_rad: float, relief_m: float, seed: int) -> np.ndarray:
    return -_slope_up(x, y, slope_rad, relief_m, seed)


def _stairs(x: np.ndarray, y: np.ndarray, slope_rad: float, relief_m: float, seed: int) -> np.ndarray:
    return relief_m * np.maximum(np.floor((x - START_X) / STAIR_RUN) + 1.0, 0.0)


def _rough(x: np.ndarray, y: np.ndarray, slope_rad: float, relief_m: float, seed: int) -> np.ndarray:
    bumps = 0.7 * lattice_noise(x, y, ROUGH_CELL, seed) + 0.3 * lattice_noise(x, y, ROUGH_CELL / 2, seed + 1)
    return relief_m * _fade_in(x) * (bumps - 0.5)


def _waves(x: np.ndarray, y: np.ndarray, slope_rad: float, relief_m: float, seed: int) -> np.ndarray:
    along = np.cos(WAVE_SKEW) * (x - START_X) + np.sin(WAVE_SKEW) * y
    return relief_m * _fade_in(x) * 0.5 * np.sin(2.0 * np.pi * along / WAVE_LENGTH)


def _stones(x: np.ndarray, y: np.ndarray, slope_rad: float, relief_m: float, seed: int) -> np.ndarray:
    """Square stones at slightly different heights; every second row is shifted by half a stone, as in a brick wall."""
    row = np.floor(x / STONE_PITCH).astype(np.int64)
    v = y / STONE_PITCH + 0.5 * (row % 2)
    column = np.floor(v).astype(np.int64)
    joint = 0.5 * (1.0 - STONE_SHARE)
    inside = (np.abs(x / STONE_PITCH - row - 0.5) < 0.5 - joint) & (np.abs(v - column - 0.5) < 0.5 - joint)
    table = np.random.default_rng([seed, 2]).random((_LATTICE, _LATTICE))
    top = 0.3 * relief_m * (table[row % _LATTICE, column % _LATTICE] - 0.5)
    return np.where(x < START_X, 0.0, np.where(inside, top, -relief_m))


_PROFILES: dict[str, Callable[[np.ndarray, np.ndarray, float, float, int], np.ndarray]] = {
    "flat": _flat,
    "slope-up": _slope_up,
    "slope-down": _slope_down,
    "stairs": _stairs,
    "rough": _rough,
    "waves": _waves,
    "stones": _stones,
}
