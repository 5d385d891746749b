"""`quickstudy doctor`: what quickstudy needs from this machine, tried out for real, and the mend for what is missing.

Every check imports what it needs by itself, so that a machine where half of it is missing still gets the whole answer.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent
FLOORS = ("assets", "envs", "agents", "training", "evaluation")
GIGABYTE = 1e9


@dataclass(frozen=True)
class Finding:
    """What one check found. state: `broken` means that some command cannot work; `warning` that it will work badly."""

    subject: str
    state: Literal["ok", "warning", "broken"]
    found: str
    mend: str = ""


def misplaced_floor() -> str | None:
    """What is wrong with where the top-level folders are imported from, in one line; None if nothing is."""
    for floor in FLOORS:
        spec = importlib.util.find_spec(floor)
        origin = spec.origin if spec and spec.origin else None
        if origin is None:
            return f"the folder '{floor}' of {ROOT} cannot be imported: run quickstudy from the repository's own .venv"
        if ROOT not in Path(origin).resolve().parents:
            return (
                f"'{floor}' is imported from {Path(origin).parent}, not from {ROOT}: unset PYTHONPATH, "
                "and run quickstudy from the repository's own .venv"
            )
    return None


def examine() -> Iterator[Finding]:
    """Run every check, one finding at a time. A check that fails in a way it did not foresee is itself a finding."""
    for check in CHECKS:
        try:
            yield from check()
        except Exception as error:  # a doctor who faints is no help: whatever a broken install raises is the finding
            text = " ".join(str(error).split()) or type(error).__name__
            yield Finding(check.__name__, "broken", text, "reinstall: make clean, then make demo")


def python() -> Iterator[Finding]:
    good = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} at {sys.executable}"
    yield Finding("python", "ok" if good else "broken", found, "" if good else "use Python 3.11 or newer")


def system() -> Iterator[Finding]:
    """Linux is what the tests run on; what has no `resource` (Windows) lacks one command."""
    found = f"{platform.system()} {platform.machine()}"
    if importlib.util.find_spec("resource") is None:
        yield Finding(
            "system",
            "warning",
            f"{found}: quickstudy is tested on Linux; this system cannot limit a process",
            "everything but `preview ROBOT.xml` should work; for that use Linux, macOS, or WSL on Windows",
        )
    else:
        untested = "" if sys.platform == "linux" else ": should work, but quickstudy is tested on Linux alone"
        yield Finding("system", "ok", found + untested)


def repository() -> Iterator[Finding]:
    wrong = misplaced_floor()
    yield Finding("repository", "broken" if wrong else "ok", wrong or str(ROOT))


def packages() -> Iterator[Finding]:
    """Installed versions against the ranges of pyproject.toml."""
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, project["dependencies"]):
        mend = f"{sys.executable} -m pip install '{requirement}'"
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(requirement.name, "broken", "not installed", mend)
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        found = f"{version} (wanted {requirement.specifier})"
        yield Finding(requirement.name, "ok" if fits else "broken", found, "" if fits else mend)


def processors() -> Iterator[Finding]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    crowded = threads > usable
    yield Finding(
        "processors",
        "warning" if crowded else "ok",
        f"{usable} usable, torch takes {threads}",
        f"set OMP_NUM_THREADS={usable}: more threads than processors slow each other down" if crowded else "",
    )


def memory() -> Iterator[Finding]:
    free = _available_memory()
    if free is None:
        yield Finding("memory", "ok", "this system does not say how much is free")
        return
    low = free < 2 * GIGABYTE
    mend = "close something, or train with a smaller --meta-batch-size" if low else ""
    yield Finding("memory", "warning" if low else "ok", f"{free / GIGABYTE:.1f} GB available", mend)


def _available_memory() -> float | None:
    """Bytes that a new process could take, by the system and by the container's limit; None where neither says."""
    limits = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        rows = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        limits.append(float(rows["MemAvailable"].split()[0]) * 1024)
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").exists() and (limit := (group / "memory.max").read_text().strip()) != "max":
        limits.append(float(limit) - float((group / "memory.current").read_text()))
    return min(limits, default=None)


def disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    state: Literal["ok", "warning", "broken"] = "ok" if free > 2 * GIGABYTE else "warning"
    if free < 0.1 * GIGABYTE:
        state = "broken"
    mend = "" if state == "ok" else "make room for checkpoints and films"
    yield Finding("disk", state, f"{free / GIGABYTE:.1f} GB free in {Path.cwd()}", mend)


def writing() -> Iterator[Finding]:
    """Runs and reports go below the working directory; checkpoints are written beside their place and renamed."""
    try:
        with tempfile.TemporaryDirectory(prefix=".quickstudy-", dir=Path.cwd()) as folder:
            first, second = Path(folder) / "a", Path(folder) / "b"
            first.write_bytes(b"x")
            os.replace(first, second)
    except OSError as error:
        yield Finding("writing", "broken", f"{Path.cwd()}: {error.strerror}", "go to a folder that you may write to")
    else:
        yield Finding("writing", "ok", f"{Path.cwd()} can be written to")


def locking() -> Iterator[Finding]:
    """A run, and a folder of results, is written by one process at a time."""
    import filelock

    with tempfile.TemporaryDirectory(prefix=".quickstudy-", dir=Path.cwd()) as folder, ExitStack() as stack:
        first, second = (stack.enter_context((Path(folder) / "lock").open("wb")) for _ in range(2))
        try:
            filelock.lock_descriptor(first.fileno(), blocking=False)
            works = not filelock.lock_descriptor(second.fileno(), blocking=False)
        except OSError:
            works = False
    mend = "" if works else "never let two processes train one run, or measure into one folder"
    found = f"{Path.cwd()} {'has' if works else 'has no'} file locks"
    yield Finding("locking", "ok" if works else "warning", found, mend)


def physics() -> Iterator[Finding]:
    """The batched simulator takes a step."""
    import numpy as np

    from envs.families import FAMILIES, make_family
    from envs.simulation import TaskBatch

    for name in FAMILIES:
        family = make_family(name)
        batch = TaskBatch(family, family.sample("train", 2, np.random.default_rng(0)))
        batch.reset(seed=0)
        batch.step(np.zeros((batch.size, family.action_size)))
    yield Finding("physics", "ok", f"{', '.join(FAMILIES)} step")


def rendering() -> Iterator[Finding]:
    """A small picture of a real task, drawn."""
    import numpy as np

    from envs.errors import UserError
    from envs.families import make_family
    from envs.rendering import TaskRenderer, rendering_backend

    family = make_family("terrain-planar")
    task = family.sample("train", 1, np.random.default_rng(0))[0]
    began = time.perf_counter()
    try:
        backend = rendering_backend()
        with TaskRenderer(family, task, 160, 120) as renderer:
            frame = renderer.frame(renderer.model.qpos0)
    except UserError as error:
        yield Finding("rendering", "broken", str(error), "without it, everything but preview, render and films works")
        return
    seconds = time.perf_counter() - began
    if frame.std() < 1.0:
        yield Finding("rendering", "broken", f"{backend} draws an empty picture", "try MUJOCO_GL=osmesa")
    else:
        yield Finding("rendering", "ok", f"{backend} drew a picture in {seconds:.2f} s")


def film() -> Iterator[Finding]:
    """The encoder that films are written with, given a few frames."""
    import av
    import numpy as np

    from evaluation.video import ENCODERS, write_mp4

    with tempfile.TemporaryDirectory() as folder:
        write_mp4((np.full((48, 64, 3), 60 * level, np.uint8) for level in range(4)), Path(folder) / "film.mp4")
    encoder = next(name for name in ENCODERS if name in av.codecs_available)
    yield Finding("film", "ok", f"PyAV {av.__version__} writes films with {encoder}")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python,
    system,
    repository,
    packages,
    processors,
    memory,
    disk,
    writing,
    locking,
    physics,
    rendering,
    film,
)
