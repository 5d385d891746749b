"""How objects of `grasp` are drawn: one recipe per kind, with the ranges that each split draws from."""

from __future__ import annotations

import math

import numpy as np

from envs.grasp_objects import BODY_SHAPES, OOD_KINDS, PART_SHAPES, TRAIN_KINDS, GraspTask
from envs.task import Parameter, choice, uniform

# The jaws open to 7.2 cm: a body wider than that in every direction can only be held by its part.
PARAMETERS = (
    Parameter("kind", "", "what the object is", TRAIN_KINDS, (*OOD_KINDS, "lid", "pan")),
    Parameter("body_shape", "", "shape of the body", BODY_SHAPES, BODY_SHAPES),
    Parameter("body_length_m", "m", "extent of the body along x", (0.075, 0.15), ((0.075, 0.175),)),
    Parameter("body_width_m", "m", "extent of the body along y", (0.075, 0.15), ((0.075, 0.175),)),
    Parameter("body_height_m", "m", "height of the body", (0.01, 0.08), ((0.01, 0.04),)),
    Parameter("part_shape", "", "shape of the part to hold", PART_SHAPES, PART_SHAPES),
    Parameter("part_x_m", "m", "where the part is, along x", (-0.06, 0.09), ((-0.075, 0.1),)),
    Parameter("part_y_m", "m", "where the part is, along y", (-0.06, 0.06), ((-0.075, 0.09),)),
    Parameter("part_base_m", "m", "lowest height of the part", (0.005, 0.03), ((0.005, 0.03),)),
    Parameter("part_length_m", "m", "extent of the part along its own axis", (0.015, 0.08), ((0.015, 0.09),)),
    Parameter("part_width_m", "m", "extent of the part across its axis", (0.012, 0.032), ((0.012, 0.038),)),
    Parameter("part_height_m", "m", "extent of the part upwards", (0.014, 0.065), ((0.014, 0.06),)),
    Parameter("part_turn_rad", "rad", "how the part is turned from x", (-1.6, 1.6), ((-1.6, 1.6),)),
    Parameter("yaw_rad", "rad", "how the object is turned on the table", (-3.15, 3.15), ((-3.15, 3.15),)),
    Parameter("mass_kg", "kg", "mass of the whole object", (0.06, 0.22), ((0.22, 0.26),)),
    Parameter("friction", "", "sliding friction between fingers and object", (0.8, 1.5), ((0.65, 0.8),)),
)

BAR_SHAPES = ("box", "capsule", "cylinder")


def draw_task(rng: np.random.Generator, ood: bool) -> GraspTask:
    """A task of a kind drawn evenly: kinds, weights and frictions never trained on where `ood`."""
    names = PARAMETERS[0].ood if ood else PARAMETERS[0].train
    kind = choice(rng, [str(name) for name in names])
    values = _lid(rng, ood) if kind == "lid" else _RECIPES[kind](rng, ood)
    return GraspTask(
        kind=kind,
        **values,
        yaw_rad=uniform(rng, (-math.pi, math.pi)),
        mass_kg=uniform(rng, (0.22, 0.26) if ood else (0.06, 0.22)),
        friction=uniform(rng, (0.65, 0.8) if ood else (0.8, 1.5)),
    )


def _lid(rng: np.random.Generator, ood: bool) -> dict:
    """A wide plate with a knob anywhere on it; farther out and on larger plates out of distribution."""
    shape = choice(rng, BODY_SHAPES)
    low, high = (0.15, 0.175) if ood else (0.1, 0.15)
    length = uniform(rng, (low, high))
    width = length if shape == "cylinder" else uniform(rng, (low, high))
    height = uniform(rng, (0.01, 0.02))
    reach = min(length, width) / 2 - 0.01
    distance = uniform(rng, (0.06, min(0.075, reach)) if ood else (0.03, min(0.06, reach)))
    angle = float(rng.uniform(-math.pi, math.pi))
    knob = choice(rng, PART_SHAPES)
    knob_width = uniform(rng, (0.032, 0.038) if ood else (0.015, 0.032))
    stretch = float(rng.uniform(1.0, 1.4)) if knob in ("box", "ellipsoid", "mesh") else 1.0
    return {
        "body_shape": shape,
        "body_length_m": length,
        "body_width_m": width,
        "body_height_m": height,
        "part_shape": knob,
        "part_x_m": round(distance * math.cos(angle), 4),
        "part_y_m": round(distance * math.sin(angle), 4),
        "part_base_m": round(height - 0.001, 4),
        "part_length_m": round(knob_width * stretch, 4),
        "part_width_m": knob_width,
        "part_height_m": uniform(rng, (max(0.025, knob_width + 0.004), 0.045)),
        "part_turn_rad": uniform(rng, (-math.pi / 2, math.pi / 2)),
    }


def _bar(
    rng: np.random.Generator,
    *,
    body: tuple[str, float, float, float],
    length: tuple[float, float],
    side: str = "x",
    along: float = 0.0,
) -> dict:
    """A bar that leaves the body at its x or y side, `along` that side from the middle."""
    body_shape, body_length, body_width, body_height = body
    shape = choice(rng, BAR_SHAPES)
    bar_length, width = uniform(rng, length), uniform(rng, (0.014, 0.026))
    height = uniform(rng, (0.016, 0.026)) if shape == "box" else width
    base = uniform(rng, (0.006, max(0.0065, min(0.02, body_height - 0.006))))
    out = (body_length if side == "x" else body_width) / 2 + bar_length / 2 - 0.006
    x, y = (out, along) if side == "x" else (along, out)
    return {
        "body_shape": body_shape,
        "body_length_m": body_length,
        "body_width_m": body_width,
        "body_height_m": body_height,
        "part_shape": shape,
        "part_x_m": round(x, 4),
        "part_y_m": round(y, 4),
        "part_base_m": base,
        "part_length_m": bar_length,
        "part_width_m": width,
        "part_height_m": height,
        "part_turn_rad": 0.0 if side == "x" else round(math.pi / 2, 4),
    }


def _pan(rng: np.random.Generator, ood: bool) -> dict:
    """A disc with a handle; wider with a longer handle out of distribution."""
    across = uniform(rng, (0.096, 0.11) if ood else (0.076, 0.096))
    body = ("cylinder", across, across, uniform(rng, (0.014, 0.03)))
    return _bar(rng, body=body, length=(0.07, 0.08) if ood else (0.05, 0.07))


def _hammer(rng: np.random.Generator, ood: bool) -> dict:
    """A blocky head with a handle."""
    body = ("box", uniform(rng, (0.076, 0.09)), uniform(rng, (0.076, 0.1)), uniform(rng, (0.02, 0.04)))
    return _bar(rng, body=body, length=(0.055, 0.08))


def _mug(rng: np.random.Generator, ood: bool) -> dict:
    """A wide cylinder with an upright handle at its side."""
    across, height = uniform(rng, (0.076, 0.09)), uniform(rng, (0.05, 0.08))
    shape = choice(rng, ("box", "cylinder"))
    length = uniform(rng, (0.024, 0.032))
    width = uniform(rng, (0.012, 0.02)) if shape == "box" else length
    handle = max(length + 0.004, round(0.65 * height, 4))
    return {
        "body_shape": "cylinder",
        "body_length_m": across,
        "body_width_m": across,
        "body_height_m": height,
        "part_shape": shape,
        "part_x_m": round(across / 2 + length / 2 - 0.003, 4),
        "part_y_m": 0.0,
        "part_base_m": round((height - handle) / 2 + 0.005, 4),
        "part_length_m": length,
        "part_width_m": width,
        "part_height_m": round(handle, 4),
        "part_turn_rad": 0.0,
    }


def _tee(rng: np.random.Generator, ood: bool) -> dict:
    """A long block with a stem from the middle of its long side."""
    body = ("box", uniform(rng, (0.11, 0.14)), uniform(rng, (0.075, 0.082)), uniform(rng, (0.02, 0.035)))
    return _bar(rng, body=body, length=(0.055, 0.08), side="y")


def _ell(rng: np.random.Generator, ood: bool) -> dict:
    """A long block with a stem from one end of its long side."""
    body = ("box", uniform(rng, (0.085, 0.11)), uniform(rng, (0.075, 0.082)), uniform(rng, (0.02, 0.035)))
    along = round((body[1] / 2 - 0.018) * float(rng.choice((-1.0, 1.0))), 4)
    return _bar(rng, body=body, length=(0.055, 0.08), side="y", along=along)


def _dumbbell(rng: np.random.Generator, ood: bool) -> dict:
    """Two equal weights joined by a bar; the tracker is on one of the two."""
    shape = choice(rng, BODY_SHAPES)
    across = uniform(rng, (0.075, 0.085))
    body = (shape, across, across, uniform(rng, (0.025, 0.04)))
    return _bar(rng, body=body, length=(0.05, 0.065))


_RECIPES = {"pan": _pan, "mug": _mug, "hammer": _hammer, "tee": _tee, "ell": _ell, "dumbbell": _dumbbell}
