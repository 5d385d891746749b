"""Robots, scenes and shipped checkpoints. Files only: `path` says where they are."""

from pathlib import Path


def path(name: str) -> Path:
    """The file or folder `name` of this folder, for instance `path("hand.xml")`."""
    return Path(__file__).parent / name
