"""Films show what happened: every episode where it belongs, its cost, and nothing that was not recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from probes import ProbeConfig, ProbeFamily, ProbeLearner, ProbeTask

from agents.agent import Sizes
from agents.random import RandomAgent, RandomConfig
from envs.errors import UserError
from envs.simulation import TaskBatch
from envs.task import Simulation, TaskFamily
from evaluation.film import FilmConfig, Panel, Stage, film, stages
from evaluation.overlay import Caption, Dot, caption_frame, title_card
from evaluation.preview import preview
from evaluation.protocol import Budget, adapt_to_tasks
from evaluation.recording import Clip, record_adaptation, record_scripted
from evaluation.style import describe, quantity
from evaluation.video import read_mp4, read_title, write_animation, write_film, write_mp4
from training.collect import collect

TASK = ProbeTask(0.7)


@pytest.fixture
def learner() -> ProbeLearner:
    return ProbeLearner(ProbeConfig(), Sizes(3, 1, 1, 10), torch.Generator().manual_seed(0))


@pytest.fixture
def idler() -> RandomAgent:
    return RandomAgent(RandomConfig(), Sizes(3, 1, 1, 10), torch.Generator().manual_seed(0))


class TestRecording:
    def test_rounds_and_probes_come_in_order(self, learner: ProbeLearner) -> None:
        clips = record_adaptation(learner, ProbeFamily(), TASK, 5, seed=0)
        order = [(clip.role, clip.episodes_spent, clip.env_steps) for clip in clips]
        assert order == [
            ("probe", 0, 0),
            ("adapt", 0, 0),
            ("adapt", 1, 10),
            ("probe", 2, 20),
            ("adapt", 2, 20),
            ("adapt", 3, 30),
            ("probe", 4, 40),
        ]
        assert all(clip.qpos.shape == (11, 1) and clip.reward.shape == (10,) for clip in clips)

    def test_a_budget_below_one_round_is_refused(self, learner: ProbeLearner) -> None:
        with pytest.raises(UserError, match="a round of this agent takes 2 episodes, the budget has 1"):
            record_adaptation(learner, ProbeFamily(), TASK, 1, seed=0)

    def test_clips_are_the_episodes_that_the_evaluator_measures(self, learner: ProbeLearner) -> None:
        clips = record_adaptation(learner, ProbeFamily(), TASK, 2, seed=7)
        rows = adapt_to_tasks(
            learner, ProbeFamily(), [TASK], "test", Budget(2, probe_episodes=1, task_seed=7), name="probe", seed=0
        )
        before = next(row for row in rows if row.role == "probe" and row.episode == 0)
        assert clips[0].episode_return == pytest.approx(before.episode_return, abs=1e-5)
        assert clips[0].success == before.success

    def test_all_noise_follows_from_the_seed(self, learner: ProbeLearner) -> None:
        """A film that is made again with its command shows the same."""
        clips = record_adaptation(learner, ProbeFamily(), TASK, 4, seed=7)
        batch, generator = TaskBatch(ProbeFamily(), [TASK], 2, threads=1), torch.Generator().manual_seed(7)
        memory = learner.fresh(1, 2, generator)
        for first in (0, 2):
            data, memory = collect(learner, memory, batch, seed=7, episode=first)
            memory = learner.adapt(memory, data)
            for i in range(2):
                clip = next(c for c in clips if (c.role, c.episodes_spent) == ("adapt", first + i))
                assert np.array_equal(clip.reward, data.reward[:, 0, i].numpy())

    def test_agents_meet_the_same_initial_states(self, learner: ProbeLearner, idler: RandomAgent) -> None:
        one, other = (record_adaptation(agent, ProbeFamily(), TASK, 4, seed=3) for agent in (learner, idler))
        for n in range(4):
            starts = [[c for c in clips if c.role == "adapt"][n].qpos[0] for clips in (one, other)]
            assert np.array_equal(*starts)

    def test_the_scripted_controller_reaches_the_goal(self) -> None:
        tasks = ProbeFamily().sample("ood", 3, np.random.default_rng(0))
        clips = record_scripted(ProbeFamily(), [TASK, *tasks], seed=0)
        assert len(clips) == 4
        assert clips[0].success


class ArrivingFamily(ProbeFamily):
    """The probe, whose episode ends within 0.1 m of the goal."""

    def terminated(self, sim: Simulation) -> np.ndarray:
        return self.success(sim)


class UnscriptedFamily(ProbeFamily):
    """The probe without its controller."""

    scripted = TaskFamily.scripted


def test_an_episode_that_ends_early_keeps_its_success_and_stays_in_the_picture() -> None:
    task = ProbeTask(0.5)
    clip = record_scripted(ArrivingFamily(), [task], seed=0)[0]
    assert clip.success
    assert len(clip.qpos) == 11
    assert abs(clip.qpos[-1, 0] - task.goal_m) < 0.1
    assert 0 < np.flatnonzero(clip.reward)[-1] < 9


def panel(count: int, round_size: int) -> Panel:
    def clip(role: Any, spent: int) -> Clip:
        return Clip(role, spent, spent * 10, np.zeros((11, 1)), np.zeros(10), 0.0, False)

    clips = [clip("probe", 0)]
    for first in range(0, count, round_size):
        clips += [clip("adapt", first + i) for i in range(round_size)] + [clip("probe", first + round_size)]
    return Panel("any", "#000000", round_size, clips)


class TestStages:
    def test_few_episodes_are_all_shown_and_a_probe_ends_the_film(self) -> None:
        scenes = stages([panel(4, 1)])
        assert scenes == [*(Stage("adapt", n) for n in range(4)), Stage("probe", 4)]

    def test_many_episodes_are_sampled_from_first_to_last(self) -> None:
        scenes = stages([panel(60, 1)])
        numbers = [scene.number for scene in scenes if scene.kind == "adapt"]
        assert numbers[0] == 0
        assert numbers[-1] == 59
        assert len(numbers) <= 8

    def test_probes_follow_rounds_of_several_episodes(self) -> None:
        scenes = stages([panel(4, 1), panel(4, 2)])
        kinds = [(scene.kind, scene.number) for scene in scenes]
        assert kinds == [("adapt", 0), ("adapt", 1), ("probe", 2), ("adapt", 2), ("adapt", 3), ("probe", 4)]

    def test_a_panel_shows_the_episode_of_the_stage_or_its_latest_probe(self) -> None:
        four = panel(4, 2)
        assert four.clip(Stage("adapt", 3)).episodes_spent == 3
        assert four.clip(Stage("probe", 3)).episodes_spent == 2
        late = four.clip(Stage("adapt", 9))
        assert (late.role, late.episodes_spent) == ("probe", 4)


CONFIG = FilmConfig(width=96, height=72, fps=10, title_seconds=0.5, hold_seconds=0.2, shadows=False)


@pytest.mark.usefixtures("drawing")
class TestFilm:
    def test_the_film_decodes_and_has_the_frames_it_should(self, learner: ProbeLearner, tmp_path: Path) -> None:
        out = film([("", learner)], ProbeFamily(), TASK, 2, 0, tmp_path / "film.mp4", config=CONFIG, progress=False)
        frames = read_mp4(out)
        # A title of 5 frames, then two episodes and a probe: a second (10 steps of 0.1 s) and a hold of 2 frames each.
        assert len(frames) == 5 + 3 * (10 + 2)
        assert frames[0].shape == (72, 96, 3)
        assert not np.array_equal(frames[0], frames[6])

    def test_two_agents_stand_side_by_side(self, learner: ProbeLearner, idler: RandomAgent, tmp_path: Path) -> None:
        out = tmp_path / "film.mp4"
        film([("a", learner), ("b", idler)], ProbeFamily(), TASK, 2, 0, out, config=CONFIG, progress=False)
        frames = read_mp4(out)
        assert frames[0].shape == (72, 192, 3)
        assert not np.array_equal(frames[-1][:, :96], frames[-1][:, 96:])
        assert list(tmp_path.iterdir()) == [out]

    def test_a_long_adaptation_is_played_faster(self, idler: RandomAgent, tmp_path: Path) -> None:
        quick = FilmConfig(width=64, height=48, fps=10, seconds=4.0, title_seconds=0.0, hold_seconds=0.1, shadows=False)
        out = film([("", idler)], ProbeFamily(), TASK, 30, 0, tmp_path / "film.mp4", config=quick, progress=False)
        assert len(read_mp4(out)) <= 40

    def test_the_same_film_twice_shows_the_same(self, learner: ProbeLearner, tmp_path: Path) -> None:
        films = []
        for name in ("one.mp4", "two.mp4"):
            film([("", learner)], ProbeFamily(), TASK, 2, 0, tmp_path / name, config=CONFIG, progress=False)
            films.append(np.array(read_mp4(tmp_path / name), dtype=np.float64))
        # Not the same bytes: neither a graphics driver nor the encoder promises the last bit.
        assert np.abs(films[0] - films[1]).mean() < 0.5

    def test_the_contact_sheet_shows_each_task(self, tmp_path: Path) -> None:
        sizes = []
        for count, scripted in ((1, False), (4, False), (4, True)):
            out = preview(ProbeFamily(), "test", count, tmp_path / "sheet.png", scripted=scripted)
            with Image.open(out) as sheet:
                sizes.append(sheet.size)
                colours = len(set(sheet.convert("RGB").resize((64, 64)).get_flattened_data()))
            assert colours > 20
        assert sizes[1][0] > sizes[0][0]
        assert sizes[2][1] > sizes[1][1]

    def test_a_family_without_a_script_has_a_preview_and_says_that_there_is_none(self, tmp_path: Path) -> None:
        assert preview(UnscriptedFamily(), "test", 2, tmp_path / "sheet.png").exists()
        with pytest.raises(UserError, match="probe has no scripted controller"):
            preview(UnscriptedFamily(), "test", 2, tmp_path / "scripted.png", scripted=True)
        assert not (tmp_path / "scripted.png").exists()

    @pytest.mark.parametrize(("count", "name"), [(0, "a.png"), (2, "a.txt")])
    def test_a_preview_that_cannot_be_says_why(self, count: int, name: str, tmp_path: Path) -> None:
        with pytest.raises(UserError):
            preview(ProbeFamily(), "test", count, tmp_path / name)
        assert list(tmp_path.iterdir()) == []


def noise(count: int, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 255, (count, *size, 3), dtype=np.uint8))


class TestVideo:
    def test_frames_survive_the_file(self, tmp_path: Path) -> None:
        flat = [np.full((48, 64, 3), value, dtype=np.uint8) for value in (40, 120, 200)]
        assert write_mp4(flat, tmp_path / "a.mp4", fps=10) == 3
        back = read_mp4(tmp_path / "a.mp4")
        assert [round(float(frame.mean()), -1) for frame in back] == [40, 120, 200]

    def test_a_film_carries_its_title_and_nothing_else_is_read(self, tmp_path: Path) -> None:
        write_film(noise(2), tmp_path / "a.mp4", title="RL²: <b>task 3</b>")
        assert read_title(tmp_path / "a.mp4") == "RL²: <b>task 3</b>"
        write_film(noise(2), tmp_path / "b.mp4")
        assert read_title(tmp_path / "b.mp4") == ""
        # A playlist by content: a library left to guess would open the film it names.
        (tmp_path / "c.mp4").write_text("#EXTM3U\n#EXTINF:1,\na.mp4\n#EXT-X-ENDLIST\n")
        assert read_title(tmp_path / "c.mp4") == ""
        assert read_title(tmp_path / "missing.mp4") == ""

    def test_a_film_that_breaks_half_way_leaves_nothing_behind(self, tmp_path: Path) -> None:
        def broken() -> Any:
            yield from noise(2)
            raise ValueError("lost")

        with pytest.raises(ValueError, match="lost"):
            write_mp4(broken(), tmp_path / "a.mp4")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["a.webp", "a.gif"])
    def test_a_film_is_an_animation_by_its_name(self, name: str, tmp_path: Path) -> None:
        write_film((frame for frame in noise(9)), tmp_path / name, fps=10)
        with Image.open(tmp_path / name) as picture:
            assert picture.n_frames == 5  # type: ignore[attr-defined]  # every second one
            assert picture.size == (64, 48)

    @pytest.mark.parametrize("name", ["a.webp", "a.gif"])
    def test_an_animation_plays_within_its_limit(self, name: str, tmp_path: Path) -> None:
        write_animation(noise(12), tmp_path / name, width=64, limit_bytes=60_000)
        assert (tmp_path / name).stat().st_size <= 60_000
        with Image.open(tmp_path / name) as picture:
            assert picture.n_frames >= 2  # type: ignore[attr-defined]

    def test_what_cannot_be_written_says_why(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="larger than"):
            write_animation(noise(12), tmp_path / "a.webp", limit_bytes=100)
        with pytest.raises(UserError, match=r"\.mp4"):
            write_mp4(noise(1), tmp_path / "a.avi")
        with pytest.raises(UserError, match="no frame"):
            write_mp4([], tmp_path / "a.mp4")
        with pytest.raises(UserError, match="no frame"):
            write_film([], tmp_path / "a.gif")
        with pytest.raises(UserError, match=r"is an \.mp4, \.webp or \.gif file"):
            write_film(noise(1), tmp_path / "a.avi")
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot write"):
            write_mp4(noise(1), tmp_path / "file" / "a.mp4")
        with pytest.raises(UserError, match="cannot write"):
            write_film(noise(1), tmp_path / "file" / "a.webp")


class TestCaption:
    frame = np.full((240, 320, 3), 90, dtype=np.uint8)

    def caption(self, **changes: Any) -> Caption:
        values: dict[str, Any] = {
            "name": "RL²", "colour": "#0072B2", "headline": "episode 2", "spent": "60 steps", "episode_return": 1.5,
            "outcome": None, "progress": 0.5, "dots": [Dot(1, 0.2, False)], "episodes": 4, "low": 0.0, "high": 2.0,
        }  # fmt: skip
        return Caption(**{**values, **changes})

    def test_each_thing_written_changes_the_picture(self) -> None:
        plain = caption_frame(self.frame, self.caption())
        for change in (
            {"name": "MAML"},
            {"headline": "episode 3"},
            {"spent": "120 steps"},
            {"episode_return": 1.6},
            {"outcome": True},
            {"progress": 0.9},
            {"dots": [Dot(1, 0.2, True)]},
            {"dots": [Dot(1, 0.2, False, probe=True)]},
            {"note": "2x speed"},
        ):
            assert not np.array_equal(plain, caption_frame(self.frame, self.caption(**change))), change

    def test_equal_returns_and_a_single_episode_can_be_drawn(self) -> None:
        picture = caption_frame(self.frame, self.caption(episodes=1, low=1.0, high=1.0))
        assert picture.shape == self.frame.shape

    def test_a_title_card_of_many_parameters_can_be_drawn(self) -> None:
        lines = [f"parameter {n} 4 cm" for n in range(20)]
        card = title_card(self.frame, "a long title " * 8, "a long note " * 8, lines, [("RL²", "#0072B2")])
        assert card.shape == self.frame.shape


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0431, "m", "4.3 cm"),
        (1.5, "m", "1.5 m"),
        (0.2104, "kg", "210 g"),
        (0.5236, "rad", "30°"),
        (0.0, "m", "0 m"),
        (0.85, "", "0.85"),
        ("mug", "", "mug"),
        (float("nan"), "m", "none"),
    ],
)
def test_quantities_read_as_people_say_them(value: Any, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_tasks_are_described_by_what_varies() -> None:
    assert describe(ProbeFamily(), ProbeTask(0.7)) == ["goal 70 cm"]
    assert describe(ProbeFamily(), ProbeTask(0.0)) == []
