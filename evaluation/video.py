"""Frames to files: H.264 films, and short animated pictures for pages."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from envs.errors import UserError

FILM_SUFFIXES = (".mp4", ".webp", ".gif")
ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "mpeg4")


def write_film(frames: Iterable[np.ndarray], out: Path, fps: int = 25, *, title: str = "") -> None:
    """uint8 [H, W, 3] frames as an .mp4, or as an animated .webp or .gif, which is smaller and plays in a page.

    title: what the film shows; an .mp4 carries it (see `read_title`).
    Raises `UserError` for another kind of file, and where it cannot be written.
    """
    suffix = out.suffix.lower()
    if suffix not in FILM_SUFFIXES:
        raise UserError(f"a film is an .mp4, .webp or .gif file, got '{out}'")
    if suffix == ".mp4":
        write_mp4(frames, out, fps, title=title)
    else:
        write_animation(list(frames), out, fps)


def write_mp4(frames: Iterable[np.ndarray], out: Path, fps: int = 25, *, title: str = "") -> int:
    """Encode uint8 [H, W, 3] frames of one even size; returns how many there were.

    H.264 (libx264, or what this build of PyAV has) with yuv420p pixels, so that every browser plays it. The file is
    written beside its place and renamed when whole. Raises `UserError` where the folder cannot be written or no encoder
    works.
    """
    out = Path(out)
    if out.suffix.lower() != ".mp4":
        raise UserError(f"a film is an .mp4 file, got '{out}'")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = out.with_name(f".{out.stem}.{os.getpid()}.part.mp4")
        beside.touch()
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from None
    count = 0
    try:
        # Without a creation time and an encoder's version string, which say nothing about the film.
        with av.open(str(beside), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
            if title:
                container.metadata["title"] = title
            stream: Any = None
            for frame in frames:
                if stream is None:
                    stream = _stream(container, frame.shape[1], frame.shape[0], fps)
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                picture.pts, picture.time_base = count, Fraction(1, fps)
                container.mux(stream.encode(picture))
                count += 1
            if stream is None:
                raise UserError(f"no frame to write to {out}")
            container.mux(stream.encode())
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    return count


def _stream(container: Any, width: int, height: int, fps: int) -> Any:
    for name in ENCODERS:
        if name not in av.codecs_available:
            continue
        stream = container.add_stream(name, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if name == "libx264":
            stream.options = {"crf": "21", "preset": "veryfast"}
        else:
            stream.bit_rate = 3_000_000
        # One thread: a film is drawn far more slowly than it is encoded.
        stream.codec_context.thread_count = 1
        return stream
    raise UserError(f"this PyAV has none of the encoders {', '.join(ENCODERS)}: reinstall it with `pip install av`")


def read_mp4(path: Path) -> list[np.ndarray]:
    """Every frame of a film, uint8 [H, W, 3]. Raises `UserError` for a file that is no film."""
    try:
        with av.open(str(path)) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"cannot read the film {path}: {error}") from None


def read_title(path: Path) -> str:
    """What `write_mp4` was told that the film shows; nothing where the file does not say."""
    try:
        # The format is named, so that a file which is no film cannot make the library open other files or addresses.
        with av.open(str(path), format="mp4") as container:
            return container.metadata.get("title", "")
    except (av.FFmpegError, OSError):
        return ""


def write_animation(
    frames: Iterable[np.ndarray], out: Path, fps: int = 25, *, width: int = 720, limit_bytes: int = 2_000_000
) -> None:
    """An animated .webp or .gif that plays for ever, as large as `limit_bytes` allows.

    frames: uint8 [H, W, 3], shown at `fps`, at most `width` pixels wide. Every second one is kept; where the file would
    be too large, it is written again with fewer, then smaller. Raises `UserError` where even the smallest is too large
    or the file cannot be written, and for another kind of file.
    """
    out = Path(out)
    kind = out.suffix.lower()
    if kind not in (".webp", ".gif"):
        raise UserError(f"an animated picture is a .webp or .gif file, got '{out}'")
    kept = [_at_most(Image.fromarray(frame), width) for number, frame in enumerate(frames) if number % 2 == 0]
    if not kept:
        raise UserError(f"no frame to write to {out}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = out.with_name(f".{out.stem}.{os.getpid()}.part{kind}")
        beside.touch()
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from None
    try:
        for stride, scale in ((1, 1.0), (2, 1.0), (2, 0.8), (2, 0.65), (3, 0.5)):
            pictures = [_at_most(picture, round(kept[0].width * scale)) for picture in kept[::stride]]
            if kind == ".gif":
                pictures = [picture.quantize(colors=128, dither=Image.Dither.NONE) for picture in pictures]
            settings: dict[str, Any] = {"quality": 60, "method": 4} if kind == ".webp" else {"optimize": True}
            duration = round(2000 * stride / fps)
            pictures[0].save(beside, save_all=True, append_images=pictures[1:], duration=duration, loop=0, **settings)
            if beside.stat().st_size <= limit_bytes:
                beside.replace(out)
                return
    finally:
        beside.unlink(missing_ok=True)
    raise UserError(
        f"{out} would be larger than {limit_bytes} bytes however small it is drawn: take fewer episodes, or an .mp4"
    )


def _at_most(picture: Image.Image, width: int) -> Image.Image:
    if picture.width <= width:
        return picture
    return picture.resize((width, round(width * picture.height / picture.width)), Image.Resampling.LANCZOS)
