"""``harp methods``: the pruning methods that a recipe can name."""

from harp.cli.stopping import StopRequest
from harp.recipes import OWN_METHODS, brought, method_names


def methods(arguments: list[str], stop: StopRequest) -> None:
    packages = brought()
    width = max(map(len, method_names()))
    for name in method_names():
        what = packages[name].value if name in packages else "registered by a module that was imported"
        print(f"  {name:<{width}}  {OWN_METHODS[name].what if name in OWN_METHODS else what}")
