"""Curves are read off a run's progress, and compared, as by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agents import catalogue
from benchmarks.curves import Curve, Plot, compare, draw, mean_and_interval, reached, read_curves, tables
from benchmarks.learning import Train, curve, plot, train_all
from envs.errors import UserError


def made_up(seed: int, returns: list[float], family: str = "cheetah-vel-2017", seconds: float = 10.0) -> Curve:
    """One evaluation every 100 steps; each further update adds 10 to the return."""
    steps = 100.0 * np.arange(1, len(returns) + 1)
    after = np.array(returns)[:, None] + 10.0 * np.arange(4)
    return Curve(seed, family, steps, seconds * np.arange(1, len(returns) + 1), after)


def test_training_seconds_leave_evaluation_out() -> None:
    common = {"rollout/round_1_return": 1.0, "rollout/round_2_return": 2.0}
    rows = curve(
        [
            {"iteration": 1, "env_steps": 100, "seconds": 2.0, "metrics": {**common, "time/fps": 50.0}},
            {
                "iteration": 2,
                "env_steps": 300,
                "seconds": 9.0,  # of which three in the iteration and the rest in the evaluation
                "metrics": {
                    **common,
                    "time/fps": 200.0 / 3.0,
                    "adapt/round_1_return": 5.0,
                    "adapt/round_2_return": 6.0,
                },
            },
        ],
        updates=1,
    )
    assert [row["training_seconds"] for row in rows] == [2.0, 5.0]
    assert [row["after_1"] for row in rows] == [None, 6.0]
    assert rows[1]["last_round"] == 2.0


def test_interval_by_hand() -> None:
    mean, half = mean_and_interval(np.array([[1.0], [2.0], [3.0]]))
    assert mean == pytest.approx([2.0])
    assert half == pytest.approx([4.3027 / 3**0.5], rel=1e-4)
    assert np.isnan(mean_and_interval(np.array([[1.0]]))[1]).all()


def test_reached_is_the_first_evaluation_that_is_good_enough() -> None:
    found = reached(made_up(0, [-100.0, -85.0, -70.0]), (-129.5, -78.6, -66.6, -60.8))
    assert found["after_1"] == {"env_steps": 200, "training_seconds": 20.0}  # -75 against -78.6
    assert found["after_3"] == {"env_steps": 200, "training_seconds": 20.0}  # -55 against -60.8
    assert found["all"] == {"env_steps": 200, "training_seconds": 20.0}
    assert reached(made_up(0, [-100.0]), (-129.5, -78.6))["all"] is None


def test_comparison_at_equal_steps() -> None:
    curves = {
        "before": [made_up(0, [0.0, 2.0]), made_up(1, [2.0, 4.0])],
        "after": [made_up(1, [3.0, 5.0, 9.0], seconds=5.0), made_up(2, [1.0, 1.0, 1.0])],
    }
    figures = compare(Plot(at=(150, 200)), curves)
    assert figures["env_steps"] == [150.0, 200.0]
    assert [row[0] for row in figures["returns"]["before"]["mean"]] == [2.0, 3.0]
    assert figures["differences"]["after"]["seeds"] == [1]
    assert [row[0] for row in figures["differences"]["after"]["mean"]] == [1.0, 1.0]
    assert figures["differences"]["after"]["half_width"] is None
    json.dumps(figures, allow_nan=False)
    assert len(tables(Plot(), figures)) == 3
    with pytest.raises(UserError, match="not all curves have 300 steps"):
        compare(Plot(at=(300,)), curves)


def test_figure(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(draw(Plot(), {"one": [made_up(0, [0.0, 2.0]), made_up(1, [1.0, 2.5])]}))
    assert np.ptp(np.asarray(Image.open(path).convert("L"))) > 100


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, probe_family: str, probe_agent: str, tmp_path: Path) -> Path:
    """The folder with the curves of two seeds of `now`."""
    monkeypatch.setattr(catalogue, "TRAINABLE", (*catalogue.TRAINABLE, "probe"))
    out = tmp_path / "curves"
    config = Train("now", probe_agent, probe_family, (0, 1), 960, 320, 2, 1, threads=1, runs=tmp_path / "runs", out=out)
    train_all(config)
    return out


def test_from_training_to_the_figure(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (trained / "now-seed1.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["env_steps"]) for row in rows] == [320, 640, 960]
    assert all(0.0 < float(row["training_seconds"]) < float(row["wall_seconds"]) for row in rows)
    record = json.loads((trained / "now-seed1.json").read_text(encoding="utf-8"))
    assert record["run"]["train"]["seed"] == 1
    assert record["command"].startswith("python -m benchmarks.learning")

    plot(Plot(out=trained))
    figures = json.loads((trained / "learning.json").read_text(encoding="utf-8"))
    assert figures["returns"]["now"]["seeds_counted"] == 2
    assert (trained / "learning.png").stat().st_size > 1000
    assert "equal environment steps" in capsys.readouterr().out


def test_curves_that_are_not_there(trained: Path) -> None:
    with pytest.raises(UserError, match="no curve of 'before'"):
        read_curves(Plot(labels=("before",), out=trained))
    with pytest.raises(UserError, match="updates must be from 0 to 1"):
        read_curves(Plot(updates=2, out=trained))


def test_a_label_names_files() -> None:
    with pytest.raises(UserError, match="letters, digits"):
        train_all(Train("a/b"))
