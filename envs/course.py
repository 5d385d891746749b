"""The courses of the `terrain` family: a surface with an obstacle across it that lets a robot through in one place.

A course is built from numbers alone: heights on a grid, a fixed number of boxes, and the openings that the passable
route goes through. x points along the course from the start at 0 to the finish, y to the left. Lengths are metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from envs.surfaces import SurfaceKind, surface_height

Layout = Literal["wall", "bridge", "lanes", "pits", "chicane"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

FINISH_X = 2.5
FIELD_X = (-1.0, 5.0)
FIELD_Y = (-2.0, 2.0)
CELL = 0.1  # of the grid of heights; a foot's contact is tested against every cell under it, so small cells are slow
COLUMNS = round((FIELD_X[1] - FIELD_X[0]) / CELL) + 1
ROWS = round((FIELD_Y[1] - FIELD_Y[0]) / CELL) + 1

RIM = 0.3  # height of the rim around the field
PIT = 0.4  # depth of pits and of the chasm under a bridge
WALL_HEIGHT, WALL_THICKNESS = 0.32, 0.08
DECK_THICKNESS = 0.05
CHASM = 0.6  # length of the chasm along x
LANE_LENGTH = 1.0  # from the entrance of the lanes to their end; closed ones are blocked half way
SECOND_WALL = 0.8  # distance between the two walls of a chicane
BOX_SLOTS = 6
PARKED = (0.0, 0.0, -6.0)  # where boxes wait that a layout has no use for
BODY_MARGIN = 0.2  # what the robot needs on each side of its middle


@dataclass(frozen=True)
class Box:
    """A box turned by `pitch` rad about the y axis; `kind` is what it is a part of: wall, deck or nothing."""

    center: tuple[float, float, float]
    half_size: tuple[float, float, float]
    pitch: float = 0.0
    kind: Literal["wall", "deck", "unused"] = "unused"


@dataclass(frozen=True)
class Opening:
    """Where the route goes through an obstacle: from x `start` to `end`, the robot's middle in y `low` .. `high`."""

    start: float
    end: float
    low: float
    high: float


@dataclass(frozen=True)
class Course:
    """heights [ROWS, COLUMNS] over y and x, and `level` the same without pits and rim.

    boxes has BOX_SLOTS entries; openings has two, of which the second may repeat the first.
    """

    heights: np.ndarray
    level: np.ndarray
    boxes: tuple[Box, ...]
    openings: tuple[Opening, Opening]


@dataclass(frozen=True)
class Ground:
    """A surface, level again behind the finish so that a slope does not go on for ever."""

    kind: SurfaceKind
    slope_rad: float
    relief_m: float
    seed: int

    def height(self, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        if self.kind in ("slope-up", "slope-down", "stairs"):
            x = np.minimum(x, FINISH_X)
        return surface_height(self.kind, np.asarray(x), np.asarray(y), self.slope_rad, self.relief_m, self.seed)


def build_course(
    ground: Ground, layout: Layout, obstacle_x: float, gap_y: float, gap_width: float, second_gap_y: float
) -> Course:
    """The course with its obstacle beginning at x `obstacle_x` and its opening around y `gap_y`.

    second_gap_y: where the second wall of a chicane is open; without effect on the other layouts.
    """
    x = np.linspace(*FIELD_X, COLUMNS)[None, :]
    y = np.linspace(*FIELD_Y, ROWS)[:, None]
    level = np.array(ground.height(x, y))
    heights = level.copy()
    boxes: list[Box] = []
    half = 0.5 * gap_width
    first = _opening(obstacle_x, obstacle_x + WALL_THICKNESS, gap_y, gap_width)
    second = first
    if layout == "wall":
        boxes += _wall(ground, obstacle_x, gap_y, half)
    elif layout == "chicane":
        boxes += _wall(ground, obstacle_x, gap_y, half)
        boxes += _wall(ground, obstacle_x + SECOND_WALL, second_gap_y, half)
        behind = obstacle_x + SECOND_WALL
        second = _opening(behind, behind + WALL_THICKNESS, second_gap_y, gap_width)
    elif layout == "bridge":
        end = obstacle_x + CHASM
        heights -= PIT * ((x > obstacle_x) & (x < end))
        boxes.append(_deck(ground, obstacle_x, end, gap_y, half))
        first = second = _opening(obstacle_x, end, gap_y, gap_width)
    else:
        end = obstacle_x + LANE_LENGTH
        blocked = obstacle_x + 0.5 * LANE_LENGTH
        pitch_y = gap_width + WALL_THICKNESS
        edges = [gap_y + (side - 0.5) * pitch_y for side in ((0, 1) if layout == "lanes" else (0, 1, -1, 2))]
        boxes += [_divider(ground, obstacle_x, end, edge) for edge in edges if FIELD_Y[0] < edge < FIELD_Y[1]]
        if layout == "lanes":
            boxes += _wall(ground, blocked, gap_y, half + WALL_THICKNESS)
        else:
            heights -= PIT * ((x > blocked) & (x < end) & (np.abs(y - gap_y) > half))
        first = second = _opening(obstacle_x, end, gap_y, gap_width)
    heights[[0, -1], :] = level[[0, -1], :] + RIM
    heights[:, [0, -1]] = level[:, [0, -1]] + RIM
    boxes += [Box(PARKED, (0.1, 0.1, 0.1))] * (BOX_SLOTS - len(boxes))
    return Course(heights, level, tuple(boxes), (first, second))


def _opening(start: float, end: float, middle: float, width: float) -> Opening:
    spare = max(0.5 * width - BODY_MARGIN, 0.02)
    return Opening(start, end, middle - spare, middle + spare)


def _wall(ground: Ground, x: float, gap_y: float, half_gap: float) -> list[Box]:
    """Two boxes across the field at x with a gap between them."""
    boxes = []
    middle_x = x + 0.5 * WALL_THICKNESS
    for low, high in ((FIELD_Y[0] + CELL, gap_y - half_gap), (gap_y + half_gap, FIELD_Y[1] - CELL)):
        if high - low < 0.02:
            continue
        below = ground.height(middle_x, np.linspace(low, high, 40))
        bottom, top = float(below.min()) - 0.1, float(below.max()) + WALL_HEIGHT
        center = (middle_x, 0.5 * (low + high), 0.5 * (bottom + top))
        boxes.append(Box(center, (0.5 * WALL_THICKNESS, 0.5 * (high - low), 0.5 * (top - bottom)), kind="wall"))
    return boxes


def _divider(ground: Ground, start: float, end: float, y: float) -> Box:
    """A wall along x between two lanes, pitched as the ground is."""
    before, after = float(ground.height(start, y)), float(ground.height(end, y))
    pitch = -np.arctan2(after - before, end - start)
    center = (0.5 * (start + end), y, 0.5 * (before + after) + 0.5 * WALL_HEIGHT - 0.05)
    return Box(center, (0.5 * (end - start), 0.5 * WALL_THICKNESS, 0.5 * WALL_HEIGHT + 0.05), float(pitch), "wall")


def _deck(ground: Ground, start: float, end: float, y: float, half_width: float) -> Box:
    """The deck of a bridge, level with the ground at both ends and resting on the edges of the chasm."""
    across = np.linspace(y - half_width, y + half_width, 20)
    before, after = (float(np.mean(ground.height(x, across))) for x in (start - CELL, end + CELL))
    pitch = -np.arctan2(after - before, end - start + 2 * CELL)
    center = (0.5 * (start + end), y, 0.5 * (before + after) - 0.5 * DECK_THICKNESS)
    return Box(center, (0.5 * (end - start) + 0.12, half_width, 0.5 * DECK_THICKNESS), float(pitch), "deck")


def route_length(x: np.ndarray, y: np.ndarray, openings: np.ndarray) -> np.ndarray:
    """[N] metres from positions x, y [N] through both openings [N, 2, 4] (start, end, low, high) to the finish.

    Before an opening the way leads to its nearest point. Who is between its start and end but beside it has to go back
    to its start. Continuous in x and y, and never shorter than the straight way.
    """
    (start, end, low, high), (start2, _, low2, high2) = openings[:, 0].T, openings[:, 1].T
    target = np.clip(y, low, high)
    target2 = np.clip(target, low2, high2)
    between = np.maximum(start2 - start, 0.0)
    rest = np.hypot(between, target2 - target) - between  # what the second opening adds
    first = _leg(x, y - target, start, end) + np.where(x < end, rest, 0.0)
    second = _leg(x, y - np.clip(y, low2, high2), start2, openings[:, 1, 1])
    return np.maximum(FINISH_X - x, 0.0) + np.where(x < end, first, second)


def _leg(x: np.ndarray, beside: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """[N] metres that an opening adds to the way straight on."""
    ahead = np.maximum(start - x, 0.0)
    beside = np.abs(beside)
    astray = np.clip((beside - 0.15) / 0.2, 0.0, 1.0) * np.maximum(x - start, 0.0)
    return np.where(x < end, np.hypot(ahead, beside) - ahead + 2.0 * astray, 0.0)
