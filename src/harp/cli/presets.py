"""``harp presets``: the recipes that have names."""

from harp.cli.stopping import StopRequest
from harp.recipes import PRESETS


def presets(arguments: list[str], stop: StopRequest) -> None:
    width = max(map(len, PRESETS))
    for name, (what, _) in PRESETS.items():
        print(f"  {name:<{width}}  {what}")
