"""From words to flags: where their defaults come from, and one call of the parser."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from harp.recipes import PRESETS, Recipe, recipe_in

Flat = arg(name="")
PresetName = Positional[Annotated[str, arg(metavar="PRESET")]]
RunPath = Positional[Annotated[Path, arg(metavar="RUN")]]
FilePath = Positional[Annotated[Path, arg(metavar="FILE")]]
NUMBERS = ConstructorRegistry()
"""How flags that are numbers are read: 8/255, too."""

AcceptChanges = Annotated[
    bool, arg(help="Continue although the images or your code have changed since the run; the results record it.")
]


def parse(kind: Callable[..., Any], command: str, arguments: list[str], default: Any) -> Any:
    """The flags of a command, a frozen dataclass; ``default`` None takes those of ``kind``."""
    start = tyro.MISSING_NONPROP if default is None else default
    return tyro.cli(kind, prog=f"harp {command}", args=arguments, default=start, registry=NUMBERS)


@NUMBERS.primitive_rule
def _number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[float] | None:
    if info.type is not float:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=lambda words: number(words[0]),
        is_instance=lambda value: isinstance(value, float | int),
        str_from_instance=lambda value: [str(value)],
    )


def number(word: str) -> float:
    """``"0.1"``, or a fraction as radii and steps are written, ``"8/255"``. Raises ValueError saying so."""
    above, slash, below = word.partition("/")
    try:
        return float(above) / float(below) if slash else float(word)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{word!r} is not a number: write it as 0.03137 or 8/255") from error


def refuse_missing(name: str, file: Path, makes: str) -> None:
    """Raise ValueError for a file to read that is not there; ``makes`` is the command that makes one."""
    if not file.is_file():
        what = "is a directory, not a file" if file.is_dir() else f"is not a file, seen from {Path.cwd()}"
        raise ValueError(f"{name}={file} {what}; {makes} makes one")


def refuse_directory(json: Path | None, name: str = "json") -> None:
    """To be asked before the work: what cannot be written after hours of it is lost."""
    if json is not None and json.is_dir():
        raise ValueError(f"{name}={json} is a directory: name a file in it")


def source_of(arguments: list[str]) -> str:
    """The first argument, from which the defaults of all flags come; MISSING lets tyro ask for it.

    Raises ValueError when flags stand before it: their defaults would come from elsewhere without a word.
    """
    if not arguments or ({"-h", "--help"} & {*arguments} and arguments[0].startswith("-")):
        return tyro.MISSING
    if arguments[0].startswith("-"):
        raise ValueError(
            f"{arguments[0]} comes too early: the preset or run is named first, since it sets all defaults"
        )
    return arguments[0]


def path_of(arguments: list[str]) -> Any:
    """The first argument as the directory of a run."""
    return source if (source := source_of(arguments)) is tyro.MISSING else Path(source)


def preset_of(arguments: list[str]) -> Recipe:
    """The recipe of the preset that is named first."""
    name = source_of(arguments)
    if name is tyro.MISSING:
        return Recipe()
    if name not in PRESETS:
        raise ValueError(f"{name!r} is not a preset; choose one of {', '.join(PRESETS)}")
    return PRESETS[name][1]


def recipe_of_run(arguments: list[str]) -> Recipe:
    """The recipe of the run that the first argument names. Read without torch, so that --help stays quick."""
    source = path_of(arguments)
    return Recipe() if source is tyro.MISSING else recipe_in(source / "recipe.json")
