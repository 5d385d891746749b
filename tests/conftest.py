"""Fixtures that tests of every floor use, and the two folders that tests import from: the repository and `tests/`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from agents.catalogue import AGENTS  # noqa: E402
from envs.families import FAMILIES  # noqa: E402


@pytest.fixture
def probe_family(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which `make_family` finds `ProbeFamily` during the test."""
    monkeypatch.setitem(FAMILIES, "probe", "probes:ProbeFamily")
    return "probe"


@pytest.fixture(scope="session")
def drawing() -> None:
    """Skips what needs pictures where none can be drawn."""
    from probes import ProbeFamily, ProbeTask

    from envs.rendering import RenderingError, TaskRenderer

    try:
        TaskRenderer(ProbeFamily(), ProbeTask(0.0), 32, 32).close()
    except RenderingError as error:
        pytest.skip(f"nothing can be drawn here: {error}")


@pytest.fixture
def probe_agent(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which `make_agent` finds `ProbeLearner` during the test."""
    monkeypatch.setitem(AGENTS, "probe", "probes:ProbeLearner")
    return "probe"
