"""``harp presets``: the recipes that have names."""

from ..recipes import PRESETS
from .stopping import StopRequest


def presets(arguments: list[str], stop: StopRequest) -> None:
    width = max(map(len, PRESETS))
    for name, (what, _) in PRESETS.items():
        print(f"  {name:<{width}}  {what}")
