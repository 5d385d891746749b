"""What a family is, in plain values: for `quickstudy families`, and for anyone who asks in JSON."""

from __future__ import annotations

import sys
from typing import Any

from envs.task import Parameter, TaskFamily


def describe(family: TaskFamily[Any]) -> dict[str, Any]:
    """Everything a user of the family has to know, as values that JSON can hold."""
    return {
        "name": family.name,
        "version": family.version,
        "about": _plain(sys.modules[type(family).__module__].__doc__),
        "scoring": _plain(type(family).__doc__),
        "horizon": family.horizon,
        "episode_seconds": round(family.horizon * family.control_seconds, 6),
        "control_rate_hz": round(1.0 / family.control_seconds, 6),
        "physics_rate_hz": round(1.0 / family.timestep, 6),
        "observation_size": family.observation_size,
        "action_size": family.action_size,
        "reward_terms": list(family.reward_terms),
        "parameters": [_describe_parameter(parameter) for parameter in family.parameters],
    }


def _plain(docstring: str | None) -> str:
    """A docstring as running text, one line a paragraph, without the marks of code."""
    paragraphs = (docstring or "").replace("`", "").split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())


def _describe_parameter(parameter: Parameter) -> dict[str, Any]:
    """`values` holds names for a choice, and (low, high) intervals for a number, by split."""
    numeric = not isinstance(parameter.train[0], str)
    inside = [list(parameter.train)] if numeric else list(parameter.train)
    outside = [list(interval) for interval in parameter.ood] if numeric else list(parameter.ood)
    return {
        "name": parameter.name,
        "unit": parameter.unit,
        "meaning": parameter.meaning,
        "kind": "number" if numeric else "choice",
        "values": {"train": inside, "test": inside, "ood": outside},
    }
