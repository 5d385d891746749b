"""Whether an agent and its memory are bit for bit what they were: a probe must teach nothing.

Compared is everything that can be reached: tensors, arrays, numbers and strings, in dataclasses, containers and objects
(modules, optimisers and models of stable-baselines3 among them), and the state of random generators. Left out are
functions, classes, a `functools.cached_property`, and the distribution that a policy computed last and keeps.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from envs.errors import UserError

_PLAIN = (bool, int, float, complex, str, bytes)
_SKIPPED = (
    type(None),
    type,
    FunctionType,
    BuiltinFunctionType,
    MethodType,
    ModuleType,
    torch.dtype,
    torch.device,
    torch.distributions.Distribution,
)


@contextmanager
def unchanged(agent: Any, memory: Any, about: str) -> Iterator[None]:
    """Raises `UserError`, which names the first change, where the block leaves one in the agent or its memory.

    about: what is being done with whom, for the message.
    """
    before = _of_both(agent, memory)
    yield
    after = _of_both(agent, memory)
    if before == after:
        return
    changed = next(path for path in (*before, *after) if before.get(path) != after.get(path))
    raise UserError(
        f"{about}: {changed} changed in a probe, which must teach nothing: `act` and `observe` return a new memory and"
        " write into neither the agent nor the memory that they are given"
    )


def _of_both(agent: Any, memory: Any) -> dict[str, Any]:
    """What there is, by where it is: values that can be compared with those of another time."""
    found: dict[str, Any] = {}
    if callable(getattr(agent, "state", None)):
        _walk("agent.state()", agent.state(), found, {})
    _walk("agent", agent, found, {})
    _walk("memory", memory, found, {})
    return found


def _walk(path: str, value: Any, found: dict[str, Any], seen: dict[int, Any]) -> None:
    """Add {path: what is there} of everything that `value` leads to, each object once."""
    if isinstance(value, _PLAIN):
        found[path] = repr(value)  # a NaN equals itself so
        return
    if isinstance(value, _SKIPPED) or id(value) in seen:
        return
    seen[id(value)] = value  # kept, so that no other object gets its id
    if isinstance(value, torch.Tensor):
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        found[path] = (value.dtype, value.shape, raw.numpy().tobytes())
    elif isinstance(value, np.ndarray | np.generic):
        found[path] = (value.dtype, value.shape, repr(value.tolist()) if value.dtype == object else value.tobytes())
    elif isinstance(value, torch.Generator):
        _walk(f"{path}.get_state()", value.get_state(), found, seen)
    elif isinstance(value, np.random.Generator | np.random.RandomState):
        state = value.bit_generator.state if isinstance(value, np.random.Generator) else value.get_state()
        found[path] = repr(state)
    elif isinstance(value, random.Random):
        found[path] = value.getstate()
    elif isinstance(value, Mapping):
        found[path] = len(value)
        for number, (key, inner) in enumerate(value.items()):
            _walk(f"{path}[{repr(key) if isinstance(key, _PLAIN) else number}]", inner, found, seen)
    elif isinstance(value, list | tuple | deque):
        found[path] = len(value)
        for number, inner in enumerate(value):
            _walk(f"{path}[{number}]", inner, found, seen)
    elif isinstance(value, set | frozenset):
        found[path] = sorted(map(repr, value))
    else:
        for name, inner in _attributes(value):
            _walk(f"{path}.{name}", inner, found, seen)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    for name, inner in getattr(value, "__dict__", {}).items():
        if not isinstance(getattr(kind, name, None), cached_property):
            yield name, inner
    for parent in kind.__mro__:
        slots = parent.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                yield name, getattr(value, name)
