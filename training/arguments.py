"""What may stand in an argument of the command line: numbers, paths, text; and streams to answer on."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from envs.errors import UserError, holds_control_characters

TASKS = 10_000  # of a split can be told apart by number: listing as many takes seconds
LIMIT = 2**53  # beyond it 1e16 and the like are no longer exact
LONGEST = 4096  # bytes of an argument: no path is longer


def integer(text: str) -> int:
    """A setting that is an integer: 12, 1_000, 20.0, 3e6. Raises `ValueError`."""
    try:
        return int(text)
    except ValueError:
        with contextlib.suppress(ValueError):
            if (number := float(text)).is_integer():
                return int(number)
    raise ValueError(f"'{text}' is not a whole number")


def whole_number(text: str) -> int:
    """0, 1, 2, ...; 1e6 and 1_000_000 are fine too."""
    try:
        whole = integer(text)
    except ValueError:
        whole = -1
    if whole < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number: use 0, 1, 2, ...")
    if whole >= LIMIT:
        raise argparse.ArgumentTypeError(f"{text} is too large: stay below {LIMIT}")
    return whole


def counting_number(text: str) -> int:
    """1, 2, 3, ..."""
    number = whole_number(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be 1 or more, got 0")
    return number


def up_to(most: int, least: int = 1) -> Callable[[str], int]:
    """`least`, ..., `most`."""

    def parse(text: str) -> int:
        number = whole_number(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more, got {number}")
        if number > most:
            raise argparse.ArgumentTypeError(f"{text} is too large: use {most} at most")
        return number

    return parse


def task_number(text: str) -> int:
    """0, 1, 2, ..., `TASKS` - 1."""
    number = whole_number(text)
    if number >= TASKS:
        raise argparse.ArgumentTypeError(f"{text} is too large: tasks are numbered from 0 to {TASKS - 1}")
    return number


def file_of(*suffixes: str) -> Callable[[str], Path]:
    """A file name that must end in one of them."""

    def parse(text: str) -> Path:
        if Path(text).suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"'{text}' must end in {' or '.join(suffixes)}")
        return Path(text)

    return parse


def check_text(number: int, argument: str) -> None:
    """Raise `UserError` for an argument that means nothing to any command, or more to a terminal than it shows."""
    if argument == "" or (argument.startswith("-") and argument.endswith("=")):
        raise UserError(f"argument {number} is empty: '{argument}'")
    if holds_control_characters(argument):
        raise UserError(f"argument {number} holds control characters or bytes that are no text: {argument!r}")
    if len(argument.encode()) > LONGEST:
        raise UserError(f"argument {number} is longer than {LONGEST} bytes: {argument}")


def check_folder() -> None:
    """Raise `UserError` where the folder that the process stands in is gone: torch cannot even be loaded there."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the folder that this runs in cannot be used ({error.strerror}): go to another") from None


def check_path(path: Path, *, or_name: bool = False) -> None:
    """Raise `UserError` for a path that the system refuses to look at; one where nothing is passes.

    or_name: it may be that of a shipped agent, `maml/grasp`, whatever a file `maml` is.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        if or_name and isinstance(error, NotADirectoryError):
            return
        raise UserError(f"cannot use {path}: {error.strerror}") from None
    if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        raise UserError(f"cannot use {path}: Permission denied")


def usable_streams() -> None:
    """Standard streams that take any text: what an encoding lacks is a question mark, what was closed leads nowhere."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # otherwise the next file that is opened would stand in its place
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")
