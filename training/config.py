"""What a run is made from, as a value, as JSON and as TOML."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from agents import catalogue
from envs.errors import UserError
from envs.families import make_family
from training.files import unsealed
from training.loop import TrainConfig
from training.recipes import RECIPES, Recipe

C = TypeVar("C")
MAX_BYTES = 1_000_000  # of a file of settings


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's result: `train` of an equal config repeats it."""

    agent: str
    """Name in `agents.catalogue`."""
    family: str
    """Name in `envs.families`."""
    family_version: str
    """The family's version; another version of the family is another family."""
    agent_config: Any
    """The agent's own frozen dataclass."""
    train: TrainConfig
    """How long, from which seed, and how often to look."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def make_run_config(agent: str, family: str, agent_config: Any = None, train: TrainConfig | None = None) -> RunConfig:
    """The config of training `agent` over `family` as it is now; its defaults where nothing is given."""
    if agent not in catalogue.TRAINABLE:
        catalogue.agent_class(agent)  # says so if there is no such agent at all
        raise UserError(f"'{agent}' has no training of its own: train one of {', '.join(catalogue.TRAINABLE)}")
    agent_config = catalogue.agent_class(agent).config_type() if agent_config is None else agent_config
    return RunConfig(agent, family, make_family(family).version, agent_config, train or TrainConfig())


def recipe_config(agent: str, family: str, **train: Any) -> RunConfig:
    """The config of training `agent` over `family` by its recipe, or by the defaults where it has none.

    train: fields of `TrainConfig` in place of the recipe's and the defaults. Raises `UserError`.
    """
    make_run_config(agent, family)  # says plainly if one of the two does not exist
    data = {"agent": agent, "family": family, "train": train}
    return run_config_from_data(data, f"{agent} on {family}", RECIPES.get((agent, family)))


def run_config_from_data(data: Mapping[str, Any], where: str, recipe: Recipe | None = None) -> RunConfig:
    """The config that `RunConfig.to_json` wrote, or that a person did: `agent` and `family` are needed, what else is
    left out is the recipe's and, without one, the default. `where` begins the `UserError` of anything unknown,
    missing, mistyped or out of range."""
    data = unsealed(dict(data), where)
    _refuse_misplaced(data, where)
    _refuse_unknown(data, [field.name for field in dataclasses.fields(RunConfig)], where, "")
    for name in ("agent", "family"):
        if not isinstance(data.get(name), str):
            raise UserError(f"{where}: '{name}' is missing or not a name; write {name} = \"...\"")
    for name in ("agent_config", "train"):
        if not isinstance(data.get(name, {}), Mapping):
            raise UserError(f"{where}: '{name}' must be a table of settings")
    try:
        known = make_run_config(data["agent"], data["family"])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    stated = data.get("family_version", known.family_version)
    if stated != known.family_version:
        raise UserError(
            f"{where}: made with version {stated} of {known.family}, but this is version {known.family_version};"
            " results of the two cannot be compared"
        )
    recipe = recipe or Recipe(known.train.steps)
    if "family_version" in data:  # written by a run, which no recipe of today changes
        agent_config = getattr(type(known.agent_config), "completed", dict)(data.get("agent_config", {}))
        agent_config = {name: agent_config[name] for name in agent_config if name not in _retired(known.agent_config)}
    else:
        agent_config = {**recipe.settings, **data.get("agent_config", {})}
    train = {"steps": recipe.steps, **data.get("train", {})}
    return dataclasses.replace(
        known,
        agent_config=from_data(type(known.agent_config), agent_config, where, "agent_config."),
        train=from_data(TrainConfig, train, where, "train."),
    )


def _retired(agent_config: Any) -> Collection[str]:
    """Settings that earlier versions wrote and this one does not have."""
    return getattr(type(agent_config), "RETIRED", ())


def read_config(path: Path) -> RunConfig:
    """The config in a TOML file, or in the `config.json` of a run: `agent`, `family`, and tables `agent_config` and
    `train` for what differs from the defaults. Raises `UserError`."""
    return run_config_from_data(read_settings(path), str(path))


def read_settings(path: Path) -> dict[str, Any]:
    """The table in a file of TOML or, if its name ends so, of JSON. Raises `UserError`."""
    kind = "JSON" if path.suffix == ".json" else "TOML"
    try:
        with path.open("rb") as file:
            read = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if len(read) > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES} bytes: that is no file of settings")
    try:
        text = read.decode("utf-8-sig")  # some editors of Windows begin a file with a byte-order mark
        data = json.loads(text, object_pairs_hook=_without_repeats) if kind == "JSON" else tomllib.loads(text)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid {kind}: {error}") from None
    except RecursionError:
        raise UserError(f"{path} is not valid {kind} for settings: it is nested too deeply") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} does not hold a table of settings")
    return data


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A table of JSON, which would otherwise take the last of two values without a word."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' stands in it twice")
    return table


def from_data(kind: type[C], data: Mapping[str, Any], where: str, prefix: str = "") -> C:
    """A dataclass from plain data, as flags and files have it. Raises `UserError`.

    A number without a fraction is a whole one however it is written (3e6, 20.0), and a whole one is a real one. "None",
    which TOML cannot say otherwise, is None where that is allowed. Nothing else is coerced.
    """
    _refuse_unknown_deeply(kind, data, where, prefix)
    try:
        text = json.dumps(_as_meant(kind, data))
    except (TypeError, ValueError, RecursionError):
        raise UserError(
            f"{where}: {prefix.rstrip('.')} holds something that is no number, text, list or table"
        ) from None
    try:
        value = TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        name = (prefix + ".".join(str(part) for part in first["loc"])).rstrip(".")
        raise UserError(f"{where}: {name}: {_lower(first['msg'])}, got {first['input']!r}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    _refuse_non_finite(value, where, prefix)
    return value


def _as_meant(kind: Any, value: Any) -> Any:
    """Plain data with whole numbers and None in place of what is written for them."""
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        kinds = get_type_hints(kind)
        return {name: _as_meant(kinds[name], entry) for name, entry in value.items()}
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return [_as_meant(get_args(kind)[0], entry) for entry in value]
    if type(None) in get_args(kind) and value == "None":
        return None
    return int(value) if kind is int and isinstance(value, float) and value.is_integer() else value


def _refuse_misplaced(data: Mapping[str, Any], where: str) -> None:
    """Raise `UserError` for a setting at the top level, or in the table of the others, with the name of its own."""
    tables: dict[str, Any] = {"train": TrainConfig}
    if data.get("agent") in catalogue.TRAINABLE:
        tables["agent_config"] = catalogue.agent_class(data["agent"]).config_type
    known = {table: {field.name for field in dataclasses.fields(kind)} for table, kind in tables.items()}
    places = {"at the top level": data, **{f"in [{table}]": data.get(table) for table in known}}
    for place, settings in places.items():
        for name in settings if isinstance(settings, Mapping) else ():
            for table, names in known.items():
                if name in names and place != f"in [{table}]":
                    raise UserError(f"{where}: '{name}' stands {place}, and belongs in the table [{table}]")


def _refuse_unknown(data: Mapping[str, Any], known: list[str], where: str, prefix: str) -> None:
    for name in data:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{prefix}{close[0]}'?" if close else f"there are {', '.join(known) or 'none'}"
            raise UserError(f"{where}: no setting is called '{prefix}{name}': {hint}")


def _refuse_unknown_deeply(kind: Any, data: Mapping[str, Any], where: str, prefix: str) -> None:
    kinds = get_type_hints(kind)
    _refuse_unknown(data, [field.name for field in dataclasses.fields(kind)], where, prefix)
    for name, value in data.items():
        if dataclasses.is_dataclass(kinds[name]) and isinstance(value, Mapping):
            _refuse_unknown_deeply(kinds[name], value, where, f"{prefix}{name}.")


def _refuse_non_finite(config: Any, where: str, prefix: str) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: {prefix}{field.name} must be finite, got {value}")


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
