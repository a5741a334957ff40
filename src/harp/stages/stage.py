"""A stage on its way from a claim to a card: opened, trained, frozen, written."""

import copy
import logging
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn

from harp.attacks import PGD, Threat
from harp.cards import read_card
from harp.checkpoint import save_tensors
from harp.data import ImageData, Images
from harp.data.extra import with_extra
from harp.evaluation import Ranks
from harp.files import write_json, write_json_lines
from harp.pruning import Budget, Gradual, attach_masks, bake_masks, budget_of, freeze_masks, masks
from harp.pruning.channels import widths
from harp.recipes import Training, few_steps, in_epochs
from harp.runs.card import make_card, of_smaller
from harp.runs.claim import Claim
from harp.runs.directory import RunDirectory
from harp.runs.fractions import of_fractions
from harp.runs.inputs import changes
from harp.runs.opening import open_teacher, with_validation
from harp.stages.attacked import attacked_in
from harp.stages.logs import make_log
from harp.stages.opening import open_inputs
from harp.stages.validation import validator
from harp.stages.watch import Watch
from harp.training.build import VALIDATION_STEPS, make_course, method_of
from harp.training.distributed import launch, make_fabric, peak_memory_bytes, place
from harp.training.loop import Course, batch_per_rank, fit
from harp.training.progress import EpochMetrics, best_of, misses_budget

log = logging.getLogger(__name__)


def settled(claim: Claim, watch: Watch) -> RunDirectory:
    watch.on_done(claim.settle())
    return claim.run


def open_stage(claim: Claim, settings: Training, watch: Watch, *, overwrite: bool, accept: bool) -> "Stage":
    """Look at all that is asked for before other processes are started, which would only repeat what is wrong."""
    compute = claim.recipe.compute
    batch_per_rank(settings.batch_size, compute.devices * compute.num_nodes)
    fabric = make_fabric(compute)
    origin = claim.origin(overwrite=overwrite)
    opened = open_inputs(
        claim.recipe, origin, lambda: launch(fabric, compute), accept=accept, progress=watch.on_reading
    )
    data = with_validation(opened.data, claim.recipe, claim.split_seed)
    anew = origin != claim.run and bool(changes(claim.run, opened.inputs, accept=True))
    return Stage(claim, fabric, data, opened.inputs, anew, watch)


@dataclass(frozen=True)
class Stage:
    """One stage on its way from a claim to a card. Nothing is written before all of its input was looked at."""

    claim: Claim
    fabric: Fabric
    data: ImageData
    inputs: dict[str, Any]
    anew: bool
    watch: Watch

    def train(self, model: nn.Module, settings: Training, what: str, budget: Budget | None = None) -> RunDirectory:
        model = place(model, self.fabric.device, channels_last=self.claim.recipe.compute.channels_last)
        few, settings = few_steps(settings, len(self.data.train)), in_epochs(settings, len(self.data.train))
        if few is not None:
            log.warning("%s: %s", self.claim.stage, few)
        course, run, records = self._course(model, settings, budget), self.claim.run, []
        start = {name: float(m.keep.detach()) for name, m in masks(model).items() if m.logit is not None}
        log_epochs = make_log(self.claim.recipe, self.claim.stage, run)
        self.begin(f"{what}; {settings.epochs} epochs of {len(self.data.train):,} images")
        watch, keep_last = self.watch, partial(self._keep_last, model, settings, budget)
        how = partial(fit, resume=run.resume, on_step=watch.on_step, should_stop=watch.should_stop, on_end=keep_last)
        try:
            for metrics in how(model, course, self.fabric):
                records.append(metrics)
                if self.fabric.is_global_zero:
                    write_json_lines(run.metrics, [asdict(record) for record in records])
                    log_epochs(records)
                _warn_of_budget(records, settings.epochs, budget)
                watch.on_epoch(metrics)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{error}. With --overwrite, or another --out, other settings start anew"
            ) from error
        if budget is not None and not masks(model):
            attach_masks(model, budget, method_of(self.claim.recipe.prune))
        if isinstance(course.rule, Gradual):
            course.rule.cut()  # the best epoch may be one of nearly the budget
        found: dict[str, Any] = {"engine": course.attacked.name if course.attacked else "torch"}
        return self.finish(model, records, found | ({"fractions": of_fractions(start, records)} if start else {}))

    def _course(self, model: nn.Module, settings: Training, budget: Budget | None) -> Course:
        recipe, data, world = self.claim.recipe, self.data, self.fabric.world_size
        assert data.validation is not None
        attack = PGD(Threat(recipe.task.norm, recipe.task.eps), steps=VALIDATION_STEPS)
        ranks = Ranks(self.fabric.global_rank, world, self.fabric.device)
        attacked = attacked_in(
            self.claim.stage,
            settings,
            recipe.compute.engine,
            ranks,
            self.watch.on_note,
            compiled=recipe.compute.compile,
        )
        engine = attacked.engine if attacked else lambda: None
        validate = validator(data.validation, attack, recipe.seed, self.watch.should_stop, ranks, engine)
        return make_course(
            *(self.claim.stage, recipe, settings, model, self._images(settings), validate),
            budget=budget,
            world=world,
            attacked=attacked,
            classes=len(data.classes),
            teacher=self._teacher(settings),
        )

    def _images(self, settings: Training) -> Images:
        train, classes = self.data.train, len(self.data.classes)
        return train if settings.extra is None else with_extra(train, settings.extra, settings.extra_share, classes)

    def _keep_last(self, model: nn.Module, settings: Training, budget: Budget | None) -> None:
        """Write the network that the steps have led to, cut to the budget where masks learn."""
        if not settings.keep_last or not self.fabric.is_global_zero:
            return
        plain = copy.deepcopy(model)
        if budget is not None and not masks(plain):
            attach_masks(plain, budget, method_of(self.claim.recipe.prune))
        save_tensors(
            self.claim.run.last, (bake_masks(freeze_masks(plain)) if masks(plain) else plain).cpu().state_dict()
        )

    def _teacher(self, settings: Training) -> nn.Module | None:
        if settings.distill == 0 or self.claim.parent is None:
            return None
        layout = self.claim.recipe.compute.channels_last
        return place(open_teacher(self.claim.parent, self.data), self.fabric.device, channels_last=layout)

    def begin(self, what: str) -> None:
        """Make the directory this stage's, the first rank for all."""
        if self.fabric.is_global_zero:
            self.claim.begin(self.inputs, anew=self.anew)
        self.fabric.barrier()
        self.watch.on_start(self.claim.stage, what)

    def finish(
        self, model: nn.Module, records: list[EpochMetrics], found: dict[str, Any] | None = None
    ) -> RunDirectory:
        """Freeze and bake what was learned, write model, masks and, last, the card."""
        chosen, budget = {}, None
        if masks(model):
            freeze_masks(model)
            budget = budget_of(model)
            chosen = {name: mask.current().cpu() for name, mask in masks(model).items()}
            bake_masks(model)
        if self.fabric.is_global_zero:
            self._write(model, chosen, records, budget, found or {})
        self.fabric.barrier()
        return settled(self.claim, self.watch)

    def _write(
        self,
        model: nn.Module,
        chosen: dict[str, Tensor],
        records: list[EpochMetrics],
        budget: Budget | None,
        found: dict[str, Any],
    ) -> None:
        recipe, run, data = self.claim.recipe, self.claim.run, self.data
        card = make_card(
            recipe,
            model.cpu(),
            chosen,
            stage=self.claim.stage,
            method=recipe.prune.method if chosen else None,
            parent=self.claim.parent_from_here,
            classes=data.classes,
            validation_images=0 if data.validation is None else len(data.validation),
            best=best_of(records),
            elapsed_s=records[-1].elapsed_s if records else 0.0,
            device=self.fabric.device,
            peak_memory_bytes=peak_memory_bytes(self.fabric.device),
            budget=budget,
            preprocessing=data.preprocessing,
            shape=data.shape,
            **found,
        )
        parent = None if self.claim.parent is None else RunDirectory(self.claim.parent)
        if parent is not None and "fractions" not in found:
            card["fractions"] = read_card(parent.card).values.get("fractions")
        if parent is not None and parent.widths.exists():
            card |= of_smaller(read_card(parent.card).values)
            write_json(run.widths, widths(model))
        save_tensors(run.model, model.state_dict())
        if chosen:
            save_tensors(run.masks, chosen)
        write_json(run.card, card)


def _warn_of_budget(records: list[EpochMetrics], epochs: int, budget: Budget | None) -> None:
    """Say at half time, and at the end, that learning does not meet the budget; the exact cut comes all the same."""
    if budget is None or records[-1].met_budget or not records[-1].layers:  # ADMM is dense until it is cut
        return
    density = f"density {records[-1].density:.3%} after {len(records)} of {epochs} epochs, and the budget is {budget.keep:.3%}"
    if len(records) == epochs and not any(record.met_budget for record in records):
        log.warning("%s: no epoch met it, so the masks are cut to it without learning from the cut", density)
    elif len(records) == (epochs + 1) // 2 and misses_budget(records, epochs, budget.keep):
        log.warning("%s: at this pace learning will not meet it; raise gamma_step, or take rule='descent'", density)
