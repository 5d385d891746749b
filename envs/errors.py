"""The one class of every error that a user can cause, and the check that most settings need."""

from __future__ import annotations

import math
from typing import Any


class UserError(Exception):
    """One line that says what is wrong, where, and what would be right. The command line prints it and exits with 2."""


def check_range(settings: Any, low: float, high: float, *names: str) -> None:
    """Raise `UserError` unless each named field of a config, or each entry of it, lies from low to high.

    A field that is None is not set and passes. For a finite `high` both ends are told, otherwise the lower one alone.
    """
    for name in names:
        value = getattr(settings, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not low <= number <= high:
                bounds = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
                raise UserError(f"{name.replace('_', '-')} must be {bounds}, got {number:g}")
