"""What is written on the pictures of a film: a name, an episode, what it cost, what it earned, and the way so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from evaluation.style import FAILURE, SUCCESS, font, rgb

INK = (255, 255, 255)
SOFT = (214, 220, 228)
DARK = (14, 18, 24)


@dataclass(frozen=True)
class Dot:
    """An episode in the small curve: its number from 1, its return, whether it succeeded.

    probe: it measured the policy after so many episodes; drawn apart from the line of those that were learned from.
    """

    episodes: int
    episode_return: float
    success: bool
    probe: bool = False


@dataclass(frozen=True)
class Caption:
    """All that is written on one frame of one panel.

    name, colour: the agent's. headline: which episode this is. spent: what the task has cost so far.
    episode_return: the return so far. outcome: none while the episode runs, then whether it succeeded.
    progress: share of the episode that has passed. dots: the finished episodes, in order.
    episodes: right end of the small curve. low, high: its vertical range. note: e.g. the playing speed, or nothing.
    """

    name: str
    colour: str
    headline: str
    spent: str
    episode_return: float
    outcome: bool | None
    progress: float
    dots: Sequence[Dot]
    episodes: int
    low: float
    high: float
    note: str = ""


def caption_frame(frame: np.ndarray, caption: Caption) -> np.ndarray:
    """The frame, uint8 [H, W, 3], with its caption."""
    height, width = frame.shape[:2]
    unit = height / 480  # everything is laid out for a picture of 480 lines
    picture = Image.fromarray(frame).convert("RGBA")
    veil = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(veil)
    bar = round(82 * unit)
    top = height - bar
    draw.rectangle((0, top, width, height), fill=(*DARK, 176))
    _name_tag(draw, caption, unit)
    _numbers(draw, caption, unit, top)
    _small_curve(
        draw, caption, (width - round(206 * unit), top + round(13 * unit), width - round(18 * unit)), unit, bar
    )
    line = max(2, round(4 * unit))
    draw.rectangle((0, height - line, width, height), fill=(255, 255, 255, 46))
    draw.rectangle((0, height - line, round(width * caption.progress), height), fill=(*rgb(caption.colour), 255))
    if caption.outcome is not None:
        _badge(draw, caption.outcome, width, unit)
    return np.asarray(Image.alpha_composite(picture, veil).convert("RGB"))


def _name_tag(draw: ImageDraw.ImageDraw, caption: Caption, unit: float) -> None:
    name, headline = font(round(19 * unit), bold=True), font(round(17 * unit))
    left, top, tall = round(14 * unit), round(14 * unit), round(38 * unit)
    dot, gap = round(13 * unit), round(12 * unit)
    name_width, headline_width = name.getlength(caption.name), headline.getlength(caption.headline)
    right = left + gap + dot + gap * 0.75 + name_width + gap + headline_width + gap * 1.2
    draw.rounded_rectangle((left, top, right, top + tall), radius=tall / 2, fill=(*DARK, 176))
    middle = top + tall / 2
    x = left + gap
    ring = (x, middle - dot / 2, x + dot, middle + dot / 2)
    draw.ellipse(ring, fill=(*rgb(caption.colour), 255), outline=(255, 255, 255, 200), width=max(1, round(unit)))
    written = x + dot + gap * 0.75
    draw.text((written, middle), caption.name, font=name, fill=INK, anchor="lm")
    draw.text((written + name_width + gap, middle), caption.headline, font=headline, fill=SOFT, anchor="lm")


def _numbers(draw: ImageDraw.ImageDraw, caption: Caption, unit: float, top: int) -> None:
    left = round(22 * unit)
    large, small = font(round(24 * unit), bold=True), font(round(16 * unit))
    baseline, below = top + round(35 * unit), top + round(60 * unit)
    value = f"{caption.episode_return:.1f}"
    draw.text((left, baseline), "return", font=small, fill=SOFT, anchor="ls")
    draw.text((left + round(60 * unit), baseline), value, font=large, fill=INK, anchor="ls")
    below_it = " · ".join(text for text in (caption.spent, caption.note) if text)
    draw.text((left, below), below_it, font=small, fill=SOFT, anchor="ls")


def _small_curve(
    draw: ImageDraw.ImageDraw, caption: Caption, place: tuple[int, int, int], unit: float, bar: int
) -> None:
    left, top, right = place
    bottom = top + bar - 30 * unit
    span = max(caption.high - caption.low, 1e-9)

    def point(dot: Dot) -> tuple[float, float]:
        share = (dot.episodes - (0.5 if dot.probe else 1.0)) / max(caption.episodes - 0.5, 1)
        level = min(max((dot.episode_return - caption.low) / span, 0.0), 1.0)
        return left + share * (right - left), bottom - level * (bottom - top)

    axis = bottom + 6 * unit
    draw.line((left - 6 * unit, axis, right + 6 * unit, axis), fill=(255, 255, 255, 90), width=max(1, round(unit)))
    points = [point(dot) for dot in caption.dots]
    learned = [place for place, dot in zip(points, caption.dots, strict=True) if not dot.probe]
    if len(learned) > 1:
        draw.line(learned, fill=(255, 255, 255, 170), width=max(1, round(1.6 * unit)), joint="curve")
    crowded = caption.episodes > 16
    for number, ((x, y), dot) in enumerate(zip(points, caption.dots, strict=True)):
        last = number == len(points) - 1
        r = (5.2 if last else 2.6 if crowded else 3.8) * unit
        colour = rgb(SUCCESS if dot.success else FAILURE)
        edge = (255, 255, 255, 255) if last else None
        if dot.probe:
            r *= 1.4
            draw.polygon(_diamond(x, y, r), fill=(*colour, 255), outline=edge)
        else:
            draw.ellipse(
                (x - r, y - r, x + r, y + r), fill=(*colour, 255), outline=edge, width=max(1, round(1.4 * unit))
            )


def _badge(draw: ImageDraw.ImageDraw, success: bool, width: int, unit: float) -> None:
    text, colour = ("success", SUCCESS) if success else ("failure", FAILURE)
    letters = font(round(18 * unit), bold=True)
    wide, tall, margin = letters.getlength(text) + 30 * unit, 38 * unit, 14 * unit
    box = (width - margin - wide, margin, width - margin, margin + tall)
    draw.rounded_rectangle(box, radius=tall / 2, fill=(*rgb(colour), 235))
    draw.text((box[0] + wide / 2, margin + tall / 2), text, font=letters, fill=INK, anchor="mm")


def title_card(
    frame: np.ndarray, title: str, note: str, lines: Sequence[str], agents: Sequence[tuple[str, str]]
) -> np.ndarray:
    """A darkened, blurred frame with title, note, the task's parameters, the agents (name, colour) and a legend."""
    height, width = frame.shape[:2]
    unit = height / 480
    picture = Image.fromarray(frame).filter(ImageFilter.GaussianBlur(9 * unit))
    picture = Image.blend(picture, Image.new("RGB", picture.size, DARK), 0.68)
    draw = ImageDraw.Draw(picture)
    columns = 2 if len(lines) > 4 or width > 1.8 * height else 1
    rows = -(-len(lines) // columns)
    size = 17 if rows <= 8 else 13
    spacing = (size + 9) * unit
    y = height / 2 - (rows * spacing + (170 if note else 142) * unit) / 2 + 24 * unit
    letters = _fitting(title, width - 48 * unit, round(30 * unit))
    draw.text((width / 2, y), title, font=letters, fill=INK, anchor="mm")
    if note:
        y += 30 * unit
        letters = _fitting(note, width - 48 * unit, round(17 * unit), bold=False)
        draw.text((width / 2, y), note, font=letters, fill=INK, anchor="mm")
    y += 44 * unit
    small = font(round(size * unit))
    widest = max((small.getlength(line) for line in lines), default=0.0)
    step = min(widest + 44 * unit, width / columns)
    middle = width / 2 - step * (columns - 1) / 2
    for number, line in enumerate(lines):
        column, row = divmod(number, rows)
        draw.text((middle + column * step, y + row * spacing), line, font=small, fill=SOFT, anchor="mm")
    y += rows * spacing + 22 * unit
    name = font(round(19 * unit), bold=True)
    whole = sum(name.getlength(text) + 26 * unit for text, _ in agents) + 34 * unit * (len(agents) - 1)
    x = width / 2 - whole / 2
    for text, colour in agents:
        r = 7 * unit
        draw.ellipse((x, y - r, x + 2 * r, y + r), fill=rgb(colour), outline=INK, width=max(1, round(unit)))
        draw.text((x + 26 * unit, y), text, font=name, fill=INK, anchor="lm")
        x += name.getlength(text) + 60 * unit
    _legend(draw, width, y + 42 * unit, unit)
    return np.asarray(picture)


def _legend(draw: ImageDraw.ImageDraw, width: int, y: float, unit: float) -> None:
    """The marks of the small curve and what they mean, centred on one line."""
    letters, gap, r = font(round(16 * unit)), 22 * unit, 5 * unit
    entries = (
        ("return of each episode:", "", INK),
        ("success", "dot", rgb(SUCCESS)),
        ("failure", "dot", rgb(FAILURE)),
        ("probe, no learning", "diamond", INK),
    )
    room = {"": 0.0, "dot": 3 * r, "diamond": 3 * r}
    x = (width - sum(letters.getlength(text) + room[mark] for text, mark, _ in entries) - gap * (len(entries) - 1)) / 2
    for text, mark, colour in entries:
        if mark == "dot":
            draw.ellipse((x, y - r, x + 2 * r, y + r), fill=colour)
        elif mark == "diamond":
            draw.polygon(_diamond(x + r, y, 1.2 * r), outline=colour)
        draw.text((x + room[mark], y), text, font=letters, fill=SOFT, anchor="lm")
        x += room[mark] + letters.getlength(text) + gap


def _diamond(x: float, y: float, r: float) -> tuple[tuple[float, float], ...]:
    return (x - r, y), (x, y - r), (x + r, y), (x, y + r)


def _fitting(text: str, width: float, size: int, bold: bool = True) -> ImageFont.FreeTypeFont:
    """The font, as large as `size` and the width allow."""
    while size > 10 and font(size, bold).getlength(text) > width:
        size -= 1
    return font(size, bold)
