"""Generated configs: accepted and valid, or one clear line, exit code 2 and nothing written.

The whole command `train` runs but for the training itself, in whose place the agent is built and, where it is small,
one iteration is made.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import ask, files_in, memory_limit
from generated import FAMILIES, GIBIBYTE, NUMBERS, build_only, choose, misspelt, valid_settings

from agents.catalogue import TRAINABLE, agent_class
from training.loop import TrainConfig

BOTH = [*NUMBERS, "[]", "[[1]]", "[4, 4]", '[1, "x"]', "[" + ", ".join(["8"] * 500) + "]", "true", "false", "{}"]
TOML_VALUES = [
    *BOTH,
    "nan",
    "inf",
    "-inf",
    "1979-05-27",
    "07:32:00",
    "{a = 1}",
    "[{a = 1}]",
    '"\\u001b[2J"',
    "'''\n'''",
]
JSON_VALUES = [*BOTH, "NaN", "Infinity", "-Infinity", "null", '{"a": 1}', '[{"a": 1}]', '"\\u001b[2J"', '"\\ud800"']


def config_text(rng: np.random.Generator, toml: bool) -> tuple[str, str, bytes, bool]:
    """(agent, family, the text of a config, must it be accepted?)."""
    agent, family = str(choose(rng, TRAINABLE)), str(choose(rng, FAMILIES))
    write = _toml if toml else json.dumps
    tables = {
        "agent_config": {k: write(v) for k, v in valid_settings(rng, agent_class(agent).config_type, 0.4).items()},
        "train": {k: write(v) for k, v in valid_settings(rng, TrainConfig, 0.3).items()},
    }
    top = {"agent": json.dumps(agent), "family": json.dumps(family)}
    if rng.random() < 0.3:
        return agent, family, _text(top, tables, toml).encode(), True
    for _ in range(int(rng.integers(1, 4))):
        table = tables[str(choose(rng, list(tables)))]
        kind = agent_class(agent).config_type if table is tables["agent_config"] else TrainConfig
        name, value = choose(rng, dataclasses.fields(kind)).name, choose(rng, TOML_VALUES if toml else JSON_VALUES)
        change = int(rng.integers(6))
        if change < 3:
            table[name] = value
        elif change == 3:
            table[misspelt(rng, name)] = value
        elif change == 4:
            top[str(choose(rng, ["agent", "family", "family_version", "sha256", "trian", "__class__"]))] = value
        else:
            tables[str(choose(rng, ["trian", "agent_config.x", "train2", "sha256"]))] = {name: value}
    text = _text(top, tables, toml).encode("utf-8", "surrogatepass")
    return agent, family, damaged(rng, text) if rng.random() < 0.2 else text, False


def damaged(rng: np.random.Generator, text: bytes) -> bytes:
    """Cut short, overwritten, repeated, nested without end, of another encoding, or nothing."""
    place = int(rng.integers(len(text)))
    noise = rng.integers(0, 256, 20, dtype=np.uint8).tobytes()
    return choose(
        rng,
        [
            text[:place],
            text[:place] + noise + text[place:],
            text * 2,
            b"[" * 100_000,
            b"a = " + b"[" * 3000 + b"]" * 3000,
            b'{"train": ' + b'{"a":' * 3000 + b"1" + b"}" * 3001,
            b"\xef\xbb\xbf" + text,
            text.decode("utf-8", "replace").encode("utf-16"),
            b"",
            b"\x00" * 100,
            b"[]",
            b"# " + b"x" * 2_000_000,
        ],
    )


def _toml(value: Any) -> str:
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, tuple) else json.dumps(value)


def _text(top: dict[str, str], tables: dict[str, dict[str, str]], toml: bool) -> str:
    if toml:
        lines = [f"{_key(name)} = {value}" for name, value in top.items()]
        for title, table in tables.items():
            lines += [f"[{title}]", *(f"{_key(name)} = {value}" for name, value in table.items())]
        return "\n".join(lines) + "\n"
    rows = [f"{json.dumps(name)}: {value}" for name, value in top.items()]
    for title, table in tables.items():
        inside = ", ".join(f"{json.dumps(name)}: {value}" for name, value in table.items())
        rows.append(f"{json.dumps(title)}: {{{inside}}}")
    return "{" + ",\n".join(rows) + "}"


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").isalnum() else json.dumps(name)


@pytest.mark.parametrize("toml", [True, False], ids=["toml", "json"])
def test_generated_configs(
    toml: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cases: Callable[[int, int], int],
    figure: Callable[[str, str], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    built = build_only(monkeypatch)
    file = tmp_path / ("config.toml" if toml else "config.json")
    count = cases(12, 200)
    refused = 0
    for case in range(count):
        rng = np.random.default_rng([51, toml, case])
        agent, family, text, valid = config_text(rng, toml)
        file.write_bytes(text)
        before = len(built)
        with memory_limit(6 * GIBIBYTE):
            answer = ask(["train", agent, family, "--config", str(file), "--out", "run"])
        accepted = answer.code == 0 and len(built) == before + 1
        assert accepted or answer.is_complaint, (case, text[:500], answer)
        assert accepted or not valid, (case, text[:500], answer)
        assert files_in(tmp_path) == {file.name}, (case, text[:500])
        refused += not accepted
    assert 0 < refused < count
    figure(
        f"generated configs, {'TOML' if toml else 'JSON'}", f"{count - refused} accepted, {refused} refused in one line"
    )
