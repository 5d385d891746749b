"""A contact sheet: sampled tasks of a family, each drawn as it begins, with its parameters written under it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from envs.errors import UserError
from envs.rendering import TaskRenderer
from envs.task import Split, Task, TaskFamily
from evaluation.recording import Clip, record_scripted, record_start
from evaluation.style import FAILURE, SUCCESS, describe, font, rgb
from training.files import cannot_write, replace_file

PAPER = (250, 250, 248)
INK = (32, 36, 42)
SOFT = (104, 110, 118)
CELL = (400, 300)  # pixels of one frame
GAP = 28
LINE = 21


def preview(
    family: TaskFamily[Any], split: Split, count: int, out: Path, *, seed: int = 0, scripted: bool = False
) -> Path:
    """Draw `count` sampled tasks of a split into an image file (.png, .jpg or .webp); returns `out`.

    seed: samples the tasks and their initial states.
    scripted: add a second row to each task, the end of an episode of the family's scripted controller.
    Raises `UserError` for a count below 1, another kind of file, a place that cannot be written, or a family without
    the scripted controller to show.
    """
    out = Path(out)
    if count < 1:
        raise UserError(f"a preview shows at least 1 task, got {count}")
    check_picture(out)
    tasks = family.sample(split, count, np.random.default_rng(seed))
    sheet = contact_sheet(family, split, tasks, seed=seed, scripted=scripted)
    save_picture(sheet, out)
    return out


def check_picture(out: Path) -> None:
    """Raises `UserError` unless it is named as a picture."""
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"a preview is a .png, .jpg or .webp file, got '{out}'")


def save_picture(picture: Image.Image, out: Path) -> None:
    """Write it whole or not at all. Raises `UserError` for a place that cannot be written."""
    encoded = io.BytesIO()
    picture.save(encoded, Image.registered_extensions()[out.suffix.lower()])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(cannot_write(out, encoded.tell(), error)) from None
    replace_file(out, encoded.getvalue())


def contact_sheet(
    family: TaskFamily[Any], split: Split, tasks: Sequence[Task], *, seed: int = 0, scripted: bool = False
) -> Image.Image:
    """The sheet as a picture, RGB."""
    clips = record_scripted(family, tasks, seed) if scripted else record_start(family, tasks, seed)
    cells = [_cell(family, task, clip, scripted) for task, clip in zip(tasks, clips, strict=True)]
    columns = _columns(len(cells))
    rows = -(-len(cells) // columns)
    wide, tall = CELL[0], max(cell.height for cell in cells)
    head = 104
    size = GAP + columns * (wide + GAP), head + rows * (tall + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 52), family.name, font=font(34, bold=True), fill=INK, anchor="ls")
    noun = "task" if len(tasks) == 1 else "tasks"
    about = f"{len(tasks)} sampled {noun} of the {split} split · version {family.version}"
    if scripted:
        solved = sum(clip.success for clip in clips)
        about += f" · the scripted controller ends {solved} of them with success"
    letters = 16
    while letters > 9 and font(letters).getlength(about) > size[0] - 2 * GAP:
        letters -= 1
    draw.text((GAP, 80), about, font=font(letters), fill=SOFT, anchor="ls")
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        sheet.paste(cell, (GAP + column * (wide + GAP), head + row * (tall + GAP)))
    return sheet


def _columns(count: int) -> int:
    """As many as make the sheet a little wider than tall."""
    return count if count <= 3 else min(6, int(np.ceil(np.sqrt(count))))


def _cell(family: TaskFamily[Any], task: Task, clip: Clip, scripted: bool) -> Image.Image:
    with TaskRenderer(family, task, *CELL) as renderer:
        pictures = [renderer.frame(clip.qpos[0])]
        if scripted:
            pictures.append(renderer.frame(clip.qpos[-1]))
    name, *rest = describe(family, task) or [family.name]
    lines = [name, *_wrapped(rest)]
    tall = len(pictures) * (CELL[1] + 6) + 8 + LINE * len(lines)
    cell = Image.new("RGB", (CELL[0], tall), PAPER)
    draw = ImageDraw.Draw(cell)
    for row, picture in enumerate(pictures):
        cell.paste(Image.fromarray(picture), (0, row * (CELL[1] + 6)))
    if scripted:
        _outcome(draw, clip.success, CELL[1] + 6)
    y = len(pictures) * (CELL[1] + 6) + 8
    for number, line in enumerate(lines):
        first = number == 0
        baseline = y + 13 + number * LINE
        draw.text((0, baseline), line, font=font(15, bold=first), fill=INK if first else SOFT, anchor="ls")
    return cell


def _outcome(draw: ImageDraw.ImageDraw, success: bool, top: int) -> None:
    text, colour = ("success", SUCCESS) if success else ("failed", FAILURE)
    letters = font(15, bold=True)
    box = (10, top + 10, 10 + letters.getlength(text) + 24, top + 38)
    draw.rounded_rectangle(box, radius=14, fill=rgb(colour))
    draw.text(((box[0] + box[2]) / 2, top + 24), text, font=letters, fill=(255, 255, 255), anchor="mm")


def _wrapped(parts: Sequence[str]) -> list[str]:
    """Parameters, joined by dots, in lines no wider than a cell."""
    lines: list[str] = []
    for part in parts:
        joined = f"{lines[-1]} · {part}" if lines else part
        if lines and font(15).getlength(joined) <= CELL[0]:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines
