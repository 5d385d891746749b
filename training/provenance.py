"""What a run was made with: versions, commit, machine and command."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.config import RunConfig

ROOT = Path(__file__).parent.parent
PACKAGES = ("torch", "mujoco", "numpy", "gymnasium", "stable-baselines3", "safetensors")


def describe_machine(config: RunConfig) -> dict[str, Any]:
    """The manifest of a run that starts or goes on now."""
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": [present(sys.argv[0]), *sys.argv[1:]],
        "versions": versions(),
        "commit": commit(),
        "agent": config.agent,
        "family": config.family,
        "family_version": config.family_version,
        "seed": config.train.seed,
        "threads": config.train.threads,
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "processors": os.cpu_count(),
        },
    }


def versions() -> dict[str, str]:
    """Versions of what the bits of a result depend on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"quickstudy": project["version"], "python": platform.python_version(), **packages}


def commit() -> str | None:
    """The commit that is checked out, with `-dirty` where tracked files differ from it; None outside a clone."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def present(word: str) -> str:
    """A word of a command without the folders of this machine."""
    return Path(word).name if os.path.isabs(word) else word
