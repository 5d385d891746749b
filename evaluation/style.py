"""How everything that people look at is coloured, lettered and put into words."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
from PIL import ImageFont

from envs.task import Task, TaskFamily
from evaluation.presets import ARMS

# Okabe and Ito's palette, which people with any colour vision can tell apart; each agent keeps its colour everywhere.
COLOURS = {
    "rl2": "#0072B2",
    "maml": "#D55E00",
    "ppo": "#4A4A4A",
    "ppo-finetuned": "#CC79A7",
    "ppo-robust": "#56B4E9",
    "ppo-oracle": "#009E73",
    "random": "#9A9A9A",
}
SPARE_COLOURS = ("#E69F00", "#7B61B3", "#8C6D31", "#B22222")
LABELS = {
    "maml": "MAML",
    "rl2": "RL²",
    "ppo": "PPO from scratch",
    "ppo-finetuned": "PPO fine-tuned",
    "ppo-robust": "PPO robust",
    "ppo-oracle": "PPO oracle",
    "random": "random",
    "ppo-long": "PPO from scratch, long",
    "ppo-finetuned-long": "PPO fine-tuned, long",
}
SUCCESS, FAILURE = "#2BA84A", "#E0803A"


def drawn_as(name: str) -> str:
    """The agent whose colour an arm has, and with which pages show and hide it: a long arm's is its agent's."""
    return ARMS[name].agent if name in ARMS else name


def agent_colour(name: str) -> str:
    """The colour of an agent, `#RRGGBB`; an agent outside the catalogue always gets the same spare one."""
    return COLOURS.get(drawn_as(name)) or SPARE_COLOURS[sum(name.encode()) % len(SPARE_COLOURS)]


def agent_label(name: str) -> str:
    """The agent's name as people write it."""
    return LABELS.get(name, name)


def agent_order(names: list[str] | set[str]) -> list[str]:
    """Agents in the order of the catalogue, unknown ones last by name."""
    known = list(LABELS)
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


@lru_cache(maxsize=64)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The typeface that matplotlib ships, so pictures look the same on every machine; `size` in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def rgb(colour: str) -> tuple[int, int, int]:
    """`#RRGGBB` as three numbers in 0..255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def quantity(value: Any, unit: str) -> str:
    """A parameter's value as people say it: 0.043 m is `4.3 cm`, 0.21 kg is `210 g`, 0.5236 rad is `30°`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        if isinstance(value, (list, tuple)):
            return ", ".join(quantity(item, unit) for item in value)
        return str(value)
    if not math.isfinite(value):
        return "none"
    scaled, shown = float(value), unit
    if unit == "rad":
        scaled, shown = math.degrees(value), "°"
    elif unit == "m" and 0 < abs(value) < 1:
        scaled, shown = value * 100, "cm"
    elif unit == "kg" and 0 < abs(value) < 1:
        scaled, shown = value * 1000, "g"
    number = f"{scaled:.0f}" if abs(scaled) >= 10 or shown == "°" else f"{scaled:.2g}"
    number = "0" if float(number) == 0 else number
    if shown in ("", "1", "-"):
        return number
    return f"{number}°" if shown == "°" else f"{number} {shown}"


def parameter_label(name: str, unit: str) -> str:
    """`mass_kg` as `mass`, `part_width_m` as `part width`."""
    stem = name.removesuffix(f"_{unit}") if unit else name
    return stem.replace("_", " ")


def describe(family: TaskFamily[Any], task: Task) -> list[str]:
    """A task's parameters in words, in the family's order: `['mug', 'mass 210 g', 'yaw 30°']`.

    A first parameter that is a choice names the task and goes without its label. Left out are zeros, which say that a
    parameter does not apply (the slope of flat ground), and numbers that only seed something.
    """
    words = []
    for number, p in enumerate(family.parameters):
        value = getattr(task, p.name, 0)
        if isinstance(value, str):
            words.append(value if number == 0 else f"{parameter_label(p.name, p.unit)} {value}")
        elif value and not p.name.endswith("seed"):
            words.append(f"{parameter_label(p.name, p.unit)} {quantity(value, p.unit)}")
    return words
