"""``harp methods``: the pruning methods that a recipe can name."""

from harp.cli.stopping import StopRequest
from harp.recipes import ADMM, OWN_METHODS, brought, method_names

_WHAT = {
    "harp": "scores and keep fractions learned together, under attack",
    "harp-published": "… by the rule of the paper: growing penalty, gradients summed over layers",
    "rates-only": "keep fractions learned, scores fixed",
    "hydra": "scores learned, the same fraction of every layer",
    "lwm": "smallest weights go, the same fraction of every layer",
    "global": "smallest weights go, by one threshold for all layers",
    "erk": "smallest weights go, fractions by Erdős–Rényi-kernel",
    "lamp": "smallest weights go, fractions by LAMP scores",
    "random": "chance decides: the control that knows nothing",
    "gmp": "smallest weights go little by little while the others learn, the same fraction of every layer",
    "gmp-erk": "… fractions by Erdős–Rényi-kernel",
    "gmp-lamp": "… fractions by LAMP scores",
    "gmp-global": "… by one threshold for all layers",
    ADMM: "weights learned under a pull to the budget, then cut",
}


def methods(arguments: list[str], stop: StopRequest) -> None:
    packages = brought()
    width = max(map(len, method_names()))
    for name in method_names():
        what = packages[name].value if name in packages else "registered by a module that was imported"
        print(f"  {name:<{width}}  {_WHAT[name] if name in OWN_METHODS else what}")
