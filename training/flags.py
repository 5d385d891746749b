"""A run's config from a file and from flags. The flags are the fields of the agent's config and of `TrainConfig`.

Nothing heavy is imported above: `quickstudy train maml --help` reads the fields from the source, to answer at once.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import importlib.util
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from envs.errors import UserError
from training.arguments import integer
from training.recipes import RECIPES

if TYPE_CHECKING:
    from training.config import RunConfig

C = TypeVar("C")
TRAIN_CONFIG = "training.loop:TrainConfig"


@dataclass(frozen=True)
class Setting:
    """One field of a config as its source states it. default: as it would be typed."""

    name: str
    kind: str
    default: str
    meaning: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def usage(self) -> str:
        """How the flag is typed: `--hidden-sizes INT ...`, `--first-order, --no-first-order`."""
        if self.kind == "bool":
            return f"{self.flag}, --no-{self.flag[2:]}"
        if self.kind.startswith("Literal["):
            return f"{self.flag} {{{','.join(ast.literal_eval('[' + self.kind[len('Literal[') :]))}}}"
        if self.kind.startswith("tuple["):
            return f"{self.flag} {self.kind[len('tuple[') :].partition(',')[0].upper()} ..."
        return f"{self.flag} {self.kind.replace(' | ', '|').upper()}"


def settings_of(place: str) -> list[Setting]:
    """The fields of a config dataclass, read from its source. place: MODULE:CLASS of it, or of an agent that has it."""
    module, _, name = place.partition(":")
    classes = _classes(module)
    for agent in _lineage(classes, name):
        for node in agent.body:
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "config_type" and node.value:
                name = ast.unparse(node.value)
    settings: dict[str, Setting] = {}
    for config in _lineage(classes, name):
        settings |= {setting.name: setting for setting in _fields(config)}
    return list(settings.values())


def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module, and of those of the same package where it has base classes from."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    own = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    bases = {base.id for node in own.values() for base in node.bases if isinstance(base, ast.Name)}
    package = module.partition(".")[0]
    inherited: dict[str, ast.ClassDef] = {}
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == package:
            inherited |= _classes(node.module) if bases & {alias.name for alias in node.names} else {}
    return inherited | own


def _lineage(classes: Mapping[str, ast.ClassDef], name: str) -> list[ast.ClassDef]:
    """A class after those of them that it inherits from."""
    bases = [base.id for base in classes[name].bases if isinstance(base, ast.Name) and base.id in classes]
    return [*(ancestor for base in bases for ancestor in _lineage(classes, base)), classes[name]]


def _fields(config: ast.ClassDef) -> Iterator[Setting]:
    for field, following in zip(config.body, [*config.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or field.value is None:
            continue
        kind = ast.unparse(field.annotation)
        if kind.startswith("ClassVar"):
            continue
        documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        meaning = " ".join(str(following.value.value).split()) if documented else ""  # type: ignore[union-attr]
        yield Setting(ast.unparse(field.target), kind, typed(ast.literal_eval(field.value)), meaning)


def typed(value: Any) -> str:
    """A setting's value as it would be typed."""
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def run_config(agent: str, family: str, file: Path | None, flags: Sequence[str], own_flags: Iterable[str]) -> RunConfig:
    """The config of `quickstudy train AGENT FAMILY`: defaults, then the recipe, then `file`, then `flags`.

    own_flags: flags that the caller understands itself, for the "did you mean". Raises `UserError`.
    """
    from training.config import read_settings, recipe_config, run_config_from_data

    config = recipe_config(agent, family)
    if file is not None:
        data = read_settings(file)
        for name, asked in (("agent", agent), ("family", family)):
            if data.setdefault(name, asked) != asked:
                raise UserError(f"{file} is for {name} {data[name]!r}, but the command line says '{asked}'")
        config = run_config_from_data(data, str(file), RECIPES.get((agent, family)))
    known = [_flag(field.name) for part in (config.agent_config, config.train) for field in dataclasses.fields(part)]
    taken = {*known, *(f"--no-{flag[2:]}" for flag in known)}

    def refuse(argument: str) -> NoReturn:
        raise UserError(unknown_argument(argument, [*own_flags, *known], f"quickstudy train {agent} {family} --help"))

    for argument in flags:  # before tyro sees them: it has flags of its own, and one of those writes a file
        if argument.startswith("--") and argument.partition("=")[0].replace("_", "-") not in taken:
            refuse(argument)
    agent_config, rest = _apply(config.agent_config, flags)
    train, rest = _apply(config.train, rest)
    if rest:
        refuse(rest[0])
    return dataclasses.replace(config, agent_config=agent_config, train=train)


def unknown_argument(argument: str, known: Iterable[str], help_command: str) -> str:
    """What to say of an argument that nobody takes."""
    if not argument.startswith("-"):
        return f"'{argument}' is one argument too many (see `{help_command}`)"
    name = argument.partition("=")[0]
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"there is no flag {name}" + (f": did you mean {close[0]}?" if close else f" (see `{help_command}`)")


def _apply(config: C, flags: Sequence[str]) -> tuple[C, list[str]]:
    """The config with what the flags set, and the flags that are not its own."""
    import tyro
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def _(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
        """Whole numbers as files and quickstudy's own flags have them: 3e6 and 20.0 are two."""
        if info.type is not int:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda texts: integer(texts[0]),
            is_instance=lambda value: isinstance(value, int),
            str_from_instance=lambda value: [str(value)],
        )

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), registry:
            changed, rest = tyro.cli(type(config), args=list(flags), default=config, return_unknown_args=True)
    except SystemExit:
        raise UserError(_first_sentence(complaint.getvalue())) from None
    from training.config import from_data

    given = {flag.replace("_", "-") for flag in flags}
    for field in dataclasses.fields(changed):  # type: ignore[arg-type]
        if getattr(changed, field.name) == () and _flag(field.name) in given:
            raise UserError(f"{_flag(field.name)} needs one value or more")
    # Values are checked as those of a file are: finite, and of the field's type.
    checked = from_data(type(config), dataclasses.asdict(changed), "command line")  # type: ignore[call-overload]
    return checked, list(rest)


def _first_sentence(box: str) -> str:
    """tyro's complaint stands in a box, drawn with lines or, where those cannot be printed, with dashes: a title, the
    complaint, an empty line or a rule, and then the help."""
    lines = [line.strip("│ ") for line in box.splitlines()]
    sentence: list[str] = []
    for line in lines[1:]:  # without the title
        if line and not set(line) <= set("─-"):
            sentence.append(line)
        elif sentence:
            break
    return " ".join(" ".join(sentence).split()).removesuffix(".")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
