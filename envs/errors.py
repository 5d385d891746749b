"""The one class of every error that a user can cause, and the check that most settings need."""

from __future__ import annotations

import math
import unicodedata
from typing import Any, ClassVar

MAX_ENTRIES = 16  # of a setting that is a list
LONGEST_LINE = 2000  # characters of an error


class UserError(Exception):
    """One line that says what is wrong, where, and what would be right. The command line prints it and exits."""

    exit_code: ClassVar[int] = 2


def check_range(settings: Any, low: float, high: float, *names: str) -> None:
    """Raise `UserError` unless each named field of a config, or each entry of it, lies from low to high.

    A field that is None is not set and passes. For a finite `high` both ends are told, otherwise the lower one alone.
    A tuple may have `MAX_ENTRIES` at most.
    """
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, tuple) and len(value) > MAX_ENTRIES:
            raise UserError(f"{name.replace('_', '-')} must have at most {MAX_ENTRIES} entries, got {len(value)}")
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not low <= number <= high:
                bounds = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
                found = number if isinstance(number, int) else f"{number:g}"  # an int may be too large for a float
                raise UserError(f"{name.replace('_', '-')} must be {bounds}, got {found}")


def holds_control_characters(text: str) -> bool:
    """Does the text hold what a terminal would obey rather than show, or bytes that are no text at all?"""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def one_line(text: str) -> str:
    """What an error says, as a terminal may show it: control characters escaped, the middle of a long one left out."""
    text = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in " ".join(text.split())
    )
    half = LONGEST_LINE // 2
    return text if len(text) <= LONGEST_LINE else f"{text[:half]} [...] {text[-half:]}"
