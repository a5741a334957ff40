"""What people call a network: by its method, its plug-ins and what it keeps."""

from harp.recipes.methods import LEARN_WEIGHTS, OWN_METHODS
from harp.recipes.settings import Recipe
from harp.recipes.training import Training

_MEASURES = {"macs": " of MACs", "parameters": " of parameters", "both": " of MACs and parameters"}


def name_of(recipe: Recipe, stage: str) -> str:
    """How people name what a stage makes: ``"HARP + S2AP 1 %"``, ``"Dense"``."""
    method, extra = recipe.prune.method, "".join(f" + {name}" for name in plug_ins(recipe, stage))
    if stage == "pretrain":
        return f"Dense{extra}"
    keep = f"{recipe.prune.keep:.3%}".replace("%", "").rstrip("0").rstrip(".")
    label = OWN_METHODS[method].label if method in OWN_METHODS else method.upper()
    of = _MEASURES[recipe.prune.measure] if recipe.prune.of_channels else ""
    return f"{label[:1].upper()}{label[1:]}{extra} {keep} %{of}"


def plug_ins(recipe: Recipe, stage: str) -> tuple[str, ...]:
    """The plug-ins that took part up to this stage since the dense network, or in it; EMA if its weights are an average."""
    if stage == "pretrain":
        return ("AWP",) * (recipe.pretrain.awp_gamma > 0) + ("EMA",) * (recipe.pretrain.ema > 0)
    last: Training = recipe.finetune if stage == "finetune" else recipe.prune
    awp = recipe.prune.method in LEARN_WEIGHTS and recipe.prune.awp_gamma > 0
    awp |= stage == "finetune" and recipe.finetune.awp_gamma > 0
    return ("S2AP",) * (recipe.prune.s2ap_rho > 0) + ("AWP",) * awp + ("EMA",) * (last.ema > 0)
