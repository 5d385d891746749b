"""What every benchmark writes beside its figures, and how it ends where it was asked for something impossible."""

from __future__ import annotations

import csv
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from envs.errors import UserError
from training.provenance import commit, present


def machine() -> dict[str, Any]:
    """Where the figures come from, and how busy it was when the run began; called at the beginning."""
    packages = ("mujoco", "torch", "numpy", "gymnasium", "stable-baselines3")
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_at_start": [round(value, 2) for value in os.getloadavg()],
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }


def command(module: str) -> str:
    """What was typed, without the folders of this machine."""
    return " ".join([f"python -m {module}", *(present(word) for word in sys.argv[1:])])


def write_record(path: Path, module: str, config: Any, where: dict[str, Any], **figures: Any) -> None:
    """The JSON of one run: command, config (a dataclass), machine and the figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        name: present(str(value)) if isinstance(value, Path) else value for name, value in asdict(config).items()
    }
    record = {"command": command(module), "config": settings, "machine": where, **figures}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """As CSV; what was not measured is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def print_table(table: Table) -> None:
    """To standard output; a file gets every column in full."""
    console = Console()
    (console if console.is_terminal else Console(width=130)).print(table)


def run(main: Callable[[], None]) -> None:
    """Call `main`; a `UserError` is printed and ends the process with 2."""
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
