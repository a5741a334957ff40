"""``--import package.module``, before or after any command: the user's modules, which register what harp does not bring."""

import os

from harp.importing import VARIABLE, import_module

FLAG = "--import"


def do_imports(arguments: list[str]) -> list[str]:
    """Import what the flags and the environment name; the arguments without these flags."""
    rest, named = [], [name for name in os.environ.get(VARIABLE, "").split(":") if name]
    words = iter(arguments)
    for word in words:
        flag, equals, name = word.partition("=")
        if flag != FLAG:
            rest.append(word)
            continue
        name = name if equals else next(words, "")
        if not name or name.startswith("-"):
            raise ValueError(f"{FLAG} names no module: write {FLAG} package.module")
        named.append(name)
    for name in dict.fromkeys(named):
        import_module(name)
    if named:
        os.environ[VARIABLE] = ":".join(dict.fromkeys(named))
    return rest
