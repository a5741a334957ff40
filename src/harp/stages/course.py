"""The course of a stage: its images, loss, rule and plug-ins, what its attacks run on, and what evaluates its epochs."""

import torch
from torch import nn

from harp.data import Images
from harp.data.extra import with_extra
from harp.evaluation import Ranks
from harp.pruning import Budget
from harp.recipes import Pruning, Training
from harp.stages.ancestry import open_teacher
from harp.stages.attacked import Attacked, attacked_in
from harp.stages.opening import Stage
from harp.stages.validation import validator
from harp.stages.weight_step import weight_step_in
from harp.training.build import make_course, method_of, validation_attack
from harp.training.distributed import place
from harp.training.loop import Course, Validate


def course_of(stage: Stage, model: nn.Module, settings: Training, budget: Budget | None) -> Course:
    recipe, data, fabric = stage.claim.recipe, stage.data, stage.fabric
    assert data.validation is not None
    ranks = Ranks(fabric.global_rank, fabric.world_size, fabric.device)
    asked = (stage.claim.stage, settings, recipe.compute.engine, ranks, stage.watch.on_note)
    attacked = attacked_in(*asked, compiled=recipe.compute.compile)
    if isinstance(attacked, Attacked):
        attacked.look_at(model, torch.zeros(1, *data.shape, device=fabric.device))

    def on(images: Images) -> Validate:
        engine = attacked.engine if attacked else lambda: None
        return validator(images, validation_attack(recipe), recipe.seed, stage.watch.should_stop, ranks, engine)

    return make_course(
        *(stage.claim.stage, recipe, settings, model, _images(stage, settings), on(data.validation)),
        budget=budget,
        world=fabric.world_size,
        attacked=attacked,
        weight_step=weight_step_in(*asked),
        classes=len(data.classes),
        teacher=_teacher(stage, settings),
        validate_training=on(_as_many(data.train, data.validation)) if _needs_training(settings) else None,
    )


def _needs_training(settings: Training) -> bool:
    return isinstance(settings, Pruning) and method_of(settings).rule == "regrow-adaptive"


def _as_many(train: Images, validation: Images) -> Images:
    """Training images spread evenly, as many as there are for validation."""
    count = min(len(train), len(validation))
    return train.subset(torch.arange(count) * len(train) // count)


def _images(stage: Stage, settings: Training) -> Images:
    train, classes = stage.data.train, len(stage.data.classes)
    return train if settings.extra is None else with_extra(train, settings.extra, settings.extra_share, classes)


def _teacher(stage: Stage, settings: Training) -> nn.Module | None:
    if settings.distill == 0 or stage.claim.parent is None:
        return None
    layout = stage.claim.recipe.compute.channels_last
    return place(open_teacher(stage.claim.parent, stage.data), stage.fabric.device, channels_last=layout)
