"""What a recipe costs: forward and backward passes of the network for each training image. Validation is not counted."""

from dataclasses import dataclass, replace

from harp.pruning import method_named
from harp.recipes import Pruning, Recipe, Training, respelled


@dataclass(frozen=True)
class Passes:
    """Per training image. A backward pass counts as one whether it ends at the weights, at the image or at both."""

    forward: int | float
    backward: int | float

    @property
    def total(self) -> int | float:
        return self.forward + self.backward

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, times: int | float) -> "Passes":
        return Passes(self.forward * times, self.backward * times)


NOTHING, ONE = Passes(0, 0), Passes(1, 1)


def passes(recipe: Recipe) -> Passes:
    """What pruning and finetuning cost together, from a parent that is there already."""
    return prune_passes(recipe.prune) + stage_passes(recipe.finetune)


def prune_passes(settings: Pruning) -> Passes:
    """What the prune stage costs: nothing for a method that only looks at the weights."""
    return stage_passes(settings) if learns(settings.method) else NOTHING


def stage_passes(settings: Training) -> Passes:
    """What a stage costs that runs all of its epochs."""
    attack, loss = _step(settings)
    attack += Passes(1, 0) * (settings.distill > 0)  # the parent answers once a step
    plain = (attack + loss) * (settings.epochs * settings.steps_per_batch)
    # The plug-ins take the loss twice, on images attacked once.
    return plain + loss * (_epochs_moved(settings) * settings.steps_per_batch)


def weight_passes(settings: Training) -> int | float:
    """How many of the backward passes of a stage end at what is learned, for each training image."""
    _, loss = _step(settings)
    return loss.backward * (settings.epochs + _epochs_moved(settings)) * settings.steps_per_batch


def learns(method: str) -> bool:
    """Whether a method trains anything in the prune stage."""
    return bool(method_named(method).learn)


def fitted(recipe: Recipe, cost: Passes) -> Recipe:
    """The recipe with the finetuning that brings it nearest to this cost from below, in whole epochs.

    Raises ValueError when that is not even one.
    """
    if recipe.prune.min_steps or recipe.finetune.min_steps:
        raise ValueError(
            "min_steps has no passes before it is known on how many images: take recipes.from_parent first"
        )
    one = stage_passes(replace(recipe.finetune, epochs=1, warmup_epochs=0.0)).total
    left = cost.total - prune_passes(recipe.prune).total
    epochs = int((left + 1e-6) // one)
    if epochs < 1:
        raise ValueError(
            f"{left:g} passes per image are left for finetuning after {recipe.prune.method}, and one epoch takes {one:g}; "
            "raise finetune.epochs, or lower prune.epochs"
        )
    return replace(recipe, finetune=replace(recipe.finetune, epochs=epochs))


def equalised(mine: Recipe, shared: Recipe) -> Recipe:
    """A method's recipe with as many passes as the ``shared`` one has with a method that learns masks and no plug-in.

    What a method saves in the prune stage, or a plug-in takes, goes to finetuning or comes from it, in whole epochs.
    """
    return fitted(mine, passes(respelled(shared, "harp")))


def _step(settings: Training) -> tuple[Passes, Passes]:
    """What one step takes for the attack, and what for the loss."""
    steps = settings.attack_steps
    match settings.objective:
        case "natural" | "free-at":
            return NOTHING, ONE
        case "n-fgsm":
            return ONE, ONE
        case "pgd-at":
            return ONE * steps, ONE
        case "trades":  # the clean logits first; the loss sees clean and attacked images
            return ONE * steps + Passes(1, 0), ONE * 2
        case "mart":
            return ONE * steps, ONE * 2


def _epochs_moved(settings: Training) -> float:
    """Epochs in which each step moves scores (S2AP) or weights (AWP) first."""
    if isinstance(settings, Pruning) and "weights" not in method_named(settings.method).learn:
        # The weights rest, so AWP has nothing to move.
        return max(settings.epochs - settings.s2ap_start, 0.0) if settings.s2ap_rho > 0 else 0.0
    return float(settings.epochs) if settings.awp_gamma > 0 else 0.0
