"""A film of adaptation: an agent, or two side by side, meets a task it has never seen, episode by episode."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from agents.agent import Agent
from envs.rendering import TaskRenderer
from envs.task import Task, TaskFamily
from evaluation.overlay import Caption, Dot, caption_frame, title_card
from evaluation.recording import Clip, record_adaptation
from evaluation.style import SPARE_COLOURS, agent_colour, agent_label, describe
from evaluation.video import write_film

SHOWN_EPISODES = 8  # a longer adaptation shows this many of its episodes, closer together at the start
SHOWN_ROUNDS = 4


@dataclass(frozen=True)
class FilmConfig:
    """How a film looks."""

    width: int = 640
    """Pixels of one panel; even."""
    height: int = 480
    """Pixels of the film; even."""
    fps: int = 25
    """Frames a second; positions between control steps are interpolated."""
    seconds: float = 25.0
    """Longest running time without the title: a longer adaptation is played faster, and says so."""
    title_seconds: float = 3.0
    """How long the card with the task's parameters and the legend stands."""
    hold_seconds: float = 0.6
    """How long the end of each episode stands."""
    shadows: bool = True
    """Off, drawing is two to three times faster."""


@dataclass(frozen=True)
class Actor:
    """One agent of a film.

    label: what it is called; name: of the agent, for its colour; round_size: its episodes a round. record: plays its
    adaptation, and gives the episodes in the order in which they happened.
    """

    label: str
    name: str
    round_size: int
    record: Callable[[], list[Clip]]


@dataclass(frozen=True)
class Stage:
    """What all panels show at once: adaptation episode `number` (from 0), or the probe after `number` episodes."""

    kind: Literal["adapt", "probe"]
    number: int


@dataclass(frozen=True)
class Panel:
    """One agent's part of the picture."""

    name: str
    colour: str
    round_size: int
    clips: Sequence[Clip]

    @property
    def adapting(self) -> list[Clip]:
        return [clip for clip in self.clips if clip.role == "adapt"]

    def clip(self, stage: Stage) -> Clip:
        """What this agent does in a stage. An agent that has spent its episodes shows its last probe."""
        if stage.kind == "adapt":
            found = [clip for clip in self.adapting if clip.episodes_spent == stage.number]
            if found:
                return found[0]
        return [clip for clip in self.clips if clip.role == "probe" and clip.episodes_spent <= stage.number][-1]


def film(
    agents: Sequence[tuple[str, Agent[Any]]],
    family: TaskFamily[Any],
    task: Task,
    episodes: int,
    seed: int,
    out: Path,
    *,
    title: str = "",
    config: FilmConfig | None = None,
    progress: bool = True,
) -> Path:
    """Let each agent adapt to `task` for `episodes` episodes and film it as an .mp4, .webp or .gif; returns `out`.

    agents: (label, agent), one panel each; an empty label is the agent's own name. They meet the same initial states.
    seed: keys initial states and exploration.
    title: of the card that opens the film, e.g. "grasp, held-out task 3"; the family's name by default.
    Raises `UserError` where nothing can be drawn or written.
    """

    def actor(label: str, agent: Agent[Any]) -> Actor:
        def record() -> list[Clip]:
            return record_adaptation(agent, family, task, episodes, seed)

        return Actor(label or agent_label(agent.name), agent.name, agent.episodes_per_round, record)

    actors = [actor(label, agent) for label, agent in agents]
    return film_actors(actors, family, task, out, title=title or family.name, config=config, progress=progress)


def film_actors(
    actors: Sequence[Actor],
    family: TaskFamily[Any],
    task: Task,
    out: Path,
    *,
    title: str,
    note: str = "",
    config: FilmConfig | None = None,
    progress: bool = True,
) -> Path:
    """Film what the actors record on `task`, one panel each, as an .mp4, .webp or .gif; returns `out`.

    title, note: of the card that opens the film; an .mp4 carries both as its title. Raises `UserError` where nothing
    can be drawn or written, and what recording raises.
    """
    config = config or FilmConfig()
    panels: list[Panel] = []
    # A renderer first: where nothing can be drawn, that is said before minutes of adaptation, not after.
    with ExitStack() as stack:
        renderer = stack.enter_context(TaskRenderer(family, task, config.width, config.height, shadows=config.shadows))
        for actor in actors:
            colour = agent_colour(actor.name)
            if any(panel.colour == colour for panel in panels):
                colour = SPARE_COLOURS[len(panels) % len(SPARE_COLOURS)]
            panels.append(Panel(actor.label, colour, actor.round_size, actor.record()))
        scenes = stages(panels)
        total = frame_count(panels, scenes, family, config)
        frames = draw(panels, scenes, renderer, family, task, title, note, config)
        bar = stack.enter_context(
            Progress(
                TextColumn("filming"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn(),
                transient=True, disable=not progress,
            )
        )  # fmt: skip
        about = f"{title}: {note}" if note else title
        write_film(bar.track(frames, total=total), Path(out), config.fps, title=about)
    return Path(out)


def stages(panels: Sequence[Panel]) -> list[Stage]:
    """The scenes of a film: adaptation episodes, the final probe, and those after rounds of more than one episode."""
    total = max(len(panel.adapting) for panel in panels)
    slowest = max(panels, key=lambda panel: panel.round_size)
    probed = [clip.episodes_spent for clip in slowest.clips if clip.role == "probe" and clip.episodes_spent]
    shown = [number - 1 for number in _spread(total, SHOWN_EPISODES)]
    ends = [total]
    if slowest.round_size > 1:
        ends = [probed[number - 1] for number in _spread(len(probed), SHOWN_ROUNDS)]
    scenes = [Stage("adapt", number) for number in shown] + [Stage("probe", number) for number in ends]
    # A probe after n episodes comes before adaptation episode n, counted from 0.
    return sorted(scenes, key=lambda stage: (stage.number, stage.kind == "adapt"))


def _spread(total: int, count: int) -> list[int]:
    """At most `count` whole numbers from 1 to `total`, both included, each step at least as long as the one before."""
    if total <= count:
        return list(range(1, total + 1))
    return sorted({round(number) for number in np.geomspace(1, total, count)})


def _timing(scenes: int, family: TaskFamily[Any], config: FilmConfig) -> tuple[float, int, int]:
    """How many times faster than life, frames of an episode's play, frames that its end stands."""
    hold = max(1, round(config.hold_seconds * config.fps))
    lifelike = family.horizon * family.control_seconds
    available = config.seconds - scenes * hold / config.fps
    speed = max(1.0, scenes * lifelike / max(available, 1.0))
    # Speeds that can be written in a word: 1x, 1.5x, 2x, 2.5x, ...
    speed = np.ceil(speed * 2) / 2 if speed > 1.02 else 1.0
    return speed, max(2, round(lifelike / speed * config.fps)), hold


def frame_count(panels: Sequence[Panel], scenes: Sequence[Stage], family: TaskFamily[Any], config: FilmConfig) -> int:
    """Frames of the whole film, title included."""
    _, play, hold = _timing(len(scenes), family, config)
    return round(config.title_seconds * config.fps) + len(scenes) * (play + hold)


def draw(
    panels: Sequence[Panel],
    scenes: Sequence[Stage],
    renderer: TaskRenderer,
    family: TaskFamily[Any],
    task: Task,
    title: str,
    note: str,
    config: FilmConfig,
) -> Iterator[np.ndarray]:
    """Every frame, uint8 [H, W * panels, 3]."""
    speed, play, hold = _timing(len(scenes), family, config)
    faster = "" if speed == 1.0 else f"{speed:g}x speed"
    total = max(len(panel.adapting) for panel in panels)
    returns = [clip.episode_return for panel in panels for clip in panel.clips]
    low, high = min(returns), max(returns)

    opening = np.concatenate([renderer.frame(panel.clip(scenes[0]).qpos[0]) for panel in panels], axis=1)
    names = [(panel.name, panel.colour) for panel in panels]
    lines = [*describe(family, task), _budget(total, family)]
    card = title_card(opening, title, note, lines, names)
    yield from itertools.repeat(card, round(config.title_seconds * config.fps))

    for stage in scenes:
        clips = [panel.clip(stage) for panel in panels]
        for number in range(play):
            passed = number / (play - 1)
            ended = number == play - 1
            pictures = []
            for panel, clip in zip(panels, clips, strict=True):
                picture = renderer.frame(_position(renderer, clip, passed))
                caption = Caption(
                    name=panel.name,
                    colour=panel.colour,
                    headline=_headline(clip, len(panel.adapting)),
                    spent=_spent(clip),
                    episode_return=clip.episode_return if ended else _return_so_far(clip, passed),
                    outcome=clip.success if ended else None,
                    progress=passed,
                    dots=_dots(panel, clip, ended),
                    episodes=total,
                    low=low,
                    high=high,
                    note=faster,
                )
                pictures.append(caption_frame(picture, caption))
            yield from itertools.repeat(np.concatenate(pictures, axis=1), 1 + hold if ended else 1)


def _return_so_far(clip: Clip, passed: float) -> float:
    return float(clip.reward[: round(passed * len(clip.reward))].sum())


def _position(renderer: TaskRenderer, clip: Clip, passed: float) -> np.ndarray:
    place = passed * (len(clip.qpos) - 1)
    step = min(int(place), len(clip.qpos) - 2)
    return renderer.between(clip.qpos[step], clip.qpos[step + 1], place - step)


def _budget(episodes: int, family: TaskFamily[Any]) -> str:
    seconds = family.horizon * family.control_seconds
    return f"{episodes} episode{'' if episodes == 1 else 's'} of {family.horizon} steps, {seconds:.3g} s"


def _headline(clip: Clip, episodes: int) -> str:
    if clip.role == "adapt":
        return f"episode {clip.episodes_spent + 1} of {episodes}"
    if clip.episodes_spent == 0:
        return "probe before any episode"
    return f"probe after {clip.episodes_spent} episode{'s' if clip.episodes_spent > 1 else ''}"


def _spent(clip: Clip) -> str:
    steps = f"{clip.env_steps:,}".replace(",", " ")
    return f"after {steps} steps" if clip.role == "adapt" else f"after {steps} steps, no learning"


def _dots(panel: Panel, clip: Clip, ended: bool) -> list[Dot]:
    """The episodes up to this clip, it among them once it has ended; probes where rounds are longer than an episode."""
    place = panel.clips.index(clip)
    shown = panel.clips[: place + 1 if ended else place]
    return [
        Dot(c.episodes_spent + (c.role == "adapt"), c.episode_return, c.success, probe=c.role == "probe")
        for c in shown
        if c.role == "adapt" or c is clip or panel.round_size > 1
    ]
