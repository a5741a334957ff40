"""The end of a stage: masks frozen and baked; model, masks and, last, the card written."""

from torch import Tensor, nn

from harp.cards import read_card
from harp.checkpoint import save_tensors
from harp.files import write_json
from harp.pruning import Budget, bake_masks, budget_of, freeze_masks, masks
from harp.pruning.channels import widths
from harp.runs.card import make_card, of_smaller
from harp.runs.claim import Claim
from harp.runs.directory import RunDirectory
from harp.stages.learning import Learned
from harp.stages.opening import Stage
from harp.stages.watch import Watch
from harp.training.distributed import peak_memory_bytes
from harp.training.progress import best_of


def finish(stage: Stage, learned: Learned) -> RunDirectory:
    """Freeze and bake what was learned, and write it; the first rank for all."""
    model, chosen, budget = learned.model, {}, None
    if masks(model):
        freeze_masks(model)
        budget = budget_of(model)
        chosen = {name: mask.current().cpu() for name, mask in masks(model).items()}
        bake_masks(model)
    if stage.fabric.is_global_zero:
        _write(stage, learned, chosen, budget)
    stage.fabric.barrier()
    return settled(stage.claim, stage.watch)


def settled(claim: Claim, watch: Watch) -> RunDirectory:
    """The finished run of a claim, whoever finished it."""
    watch.on_done(claim.settle())
    return claim.run


def _write(stage: Stage, learned: Learned, chosen: dict[str, Tensor], budget: Budget | None) -> None:
    recipe, run, data, device = stage.claim.recipe, stage.claim.run, stage.data, stage.fabric.device
    model: nn.Module = learned.model
    card = make_card(
        recipe,
        model.cpu(),
        chosen,
        stage=stage.claim.stage,
        method=recipe.prune.method if chosen else None,
        parent=stage.claim.parent_from_here,
        classes=data.classes,
        validation_images=0 if data.validation is None else len(data.validation),
        best=best_of(learned.records),
        elapsed_s=learned.records[-1].elapsed_s if learned.records else 0.0,
        device=device,
        peak_memory_bytes=peak_memory_bytes(device),
        budget=budget,
        preprocessing=data.preprocessing,
        shape=data.shape,
        engine=learned.engine,
        weight_step=learned.weight_step,
        fractions=learned.fractions,
    )
    parent = None if stage.claim.parent is None else RunDirectory(stage.claim.parent)
    if parent is not None and learned.fractions is None:
        card["fractions"] = read_card(parent.card).values.get("fractions")
    if parent is not None and parent.widths.exists():
        card |= of_smaller(read_card(parent.card).values)
        write_json(run.widths, widths(model))
    save_tensors(run.model, model.state_dict())
    if chosen:
        save_tensors(run.masks, chosen)
    write_json(run.card, card)
