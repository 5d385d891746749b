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


@pytest.fixture
def probe_agent(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which `make_agent` finds `ProbeLearner` during the test."""
    monkeypatch.setitem(AGENTS, "probe", "probes:ProbeLearner")
    return "probe"
