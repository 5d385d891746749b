"""`SHA256SUMS`: what the files of results must be, as `sha256sum` writes it and `sha256sum -c SHA256SUMS` checks it.

A file is read only if it matches its line there. One without a line, or a folder without sums, is taken as it is: who
means to change a file deletes its line. But where a line names a file that is not there, it may be this one's line with
its name damaged. The line of a compressed table is that of what it holds, under the name without `.gz`.

Sums are written before their files: whenever a process is killed, each file matches a line. While a file is being
replaced it has two of them, one for what was there and one for what comes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import zlib
from contextlib import AbstractContextManager
from pathlib import Path

from envs.errors import UserError
from training.files import LOCK, cannot_write, locked, read_bytes, refuse_link, replace_file

SUMS_FILE = "SHA256SUMS"
LARGEST_BYTES = 2**30  # of a table, decompressed: five hundred times that of the preset `full`

_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\\\x00-\x1f]+)")

Sums = dict[str, list[str]]
"""{name of a file: every SHA-256 that it may have}."""


def read_sums(folder: Path) -> Sums:
    """The sums of a folder; none where it has no `SHA256SUMS`. Raises `UserError` where that is damaged or a link."""
    path = folder / SUMS_FILE
    data = _read_if_there(path)
    if data is None:
        return {}
    mend = f"restore it, or delete it to have the files beside it read unchecked ({path})"
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{SUMS_FILE} is damaged, it is not text: {mend}") from None
    if len(lines) < 2 or lines.pop():
        raise UserError(f"{SUMS_FILE} is damaged, it ends within a line: {mend}")
    sums: Sums = {}
    for number, line in enumerate(lines, start=1):
        found = _LINE.fullmatch(line)
        if found is None:
            raise UserError(f"{SUMS_FILE} is damaged, line {number} is not a SHA-256, two blanks and a name: {mend}")
        sums.setdefault(found[2], []).append(found[1])
    return sums


def read_checked(path: Path) -> bytes:
    """What is in a file of results, decompressed where its name ends in `.gz`.

    Raises `UserError` where it is missing, unreadable, a link or not what its sum says.
    """
    data = _read_if_there(path)
    if data is None:
        raise UserError(f"there is no file {path}: run `quickstudy evaluate` or `quickstudy benchmark` first")
    name = path.name
    if path.suffix == ".gz":
        name, data = path.stem, _decompressed(path, data)
    sums = read_sums(path.parent)
    lost = [other for other in sums if not any(os.path.lexists(path.parent / file) for file in (other, f"{other}.gz"))]
    if name not in sums and lost:
        raise UserError(
            f"{path.parent / SUMS_FILE} names '{lost[0]}', which is not there, and not '{name}': restore it, or delete"
            " that line"
        )
    if name in sums and _digest(data) not in sums[name]:
        raise UserError(
            f"{path} does not match {SUMS_FILE} beside it: restore it, or delete the line '{name}' there if the change"
            " was meant"
        )
    return data


def write_checked(path: Path, data: bytes) -> None:
    """Put a file of results in its place, its sum first. Raises `UserError` where that fails, or where it is a link."""
    make_folder(path, len(data))
    sums, new = read_sums(path.parent), _digest(data)
    before = _read_if_there(path)
    old = [] if before is None else sums.get(path.name, [_digest(before)])
    _write_sums(path.parent, sums, {**sums, path.name: sorted({*old, new})})
    replace_file(path, data)
    _write_sums(path.parent, {**sums, path.name: sorted({*old, new})}, {**sums, path.name: [new]})


def writing_to(folder: Path) -> AbstractContextManager[None]:
    """No other process writes results there meanwhile. Raises `UserError` if one does."""
    return locked(folder, f"another process writes results to {folder}: wait for it, or use another folder")


def make_folder(path: Path, size: int) -> None:
    """Make the folder of a file of `size` bytes. Raises `UserError` where that fails, or where either is a link."""
    try:
        refuse_link(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_link(path)
    except OSError as error:
        raise UserError(cannot_write(path, size, error)) from None


def is_unfinished(path: Path) -> bool:
    """Is this what a process leaves behind that is killed before the first file of a folder is in its place?"""
    return path.name in (SUMS_FILE, LOCK) or (path.name.startswith(".") and path.name.endswith(".unfinished"))


def _write_sums(folder: Path, present: Sums, wanted: Sums) -> None:
    if present != wanted:
        lines = [f"{digest}  {name}\n" for name, digests in sorted(wanted.items()) for digest in digests]
        replace_file(folder / SUMS_FILE, "".join(lines).encode())


def _read_if_there(path: Path) -> bytes | None:
    """None where there is no such file. Raises `UserError` where it is a link, unreadable, or something else."""
    try:
        refuse_link(path.parent)
        refuse_link(path)
        if not path.exists():
            return None
        if not path.is_file():  # asked before it is opened: a pipe would be waited for
            raise UserError(f"{path} is not a file")
        return read_bytes(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def _decompressed(path: Path, data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(LARGEST_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a whole gzip file: {error}") from None
    if len(content) > LARGEST_BYTES:
        raise UserError(f"{path} holds more than {LARGEST_BYTES} bytes: no table of results is as large")
    return content


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
