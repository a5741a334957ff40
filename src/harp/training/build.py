"""A stage's settings as what ``fit`` runs: its loss, its method, its rule of keep fractions, its plug-in, and its course."""

from dataclasses import replace

from torch import nn

from harp.attacks import PGD, Threat
from harp.data import Images
from harp.objectives import Objective, free_at, mart, n_fgsm, natural, pgd_at, trades
from harp.pruning import (
    GRADUAL,
    LWM,
    STARTS,
    Admm,
    Budget,
    Descent,
    FlyingBird,
    Gradual,
    Method,
    Penalty,
    Ramp,
    Regrowth,
    Sharpness,
    layer_sum,
    learned_scores,
    learned_weights,
    marginal,
    masks,
    method_named,
    starting_rho,
)
from harp.recipes import ADMM, Pruning, Recipe, Training, steps_per_epoch
from harp.training.averaging import Average
from harp.training.engines import Attacked, WeightStep
from harp.training.loop import Course, Validate
from harp.training.mixing import Mixing
from harp.training.optimizer import KeepRule
from harp.training.targets import Targets

_VALIDATION_STEPS = 10
ESTIMATORS = {"marginal": marginal, "layer-sum": layer_sum}
_PLAIN = Pruning()


def make_objective(settings: Training, threat: Threat) -> Objective:
    """The robust loss that a stage's settings name."""
    attack = PGD(threat, steps=settings.attack_steps, step_size=settings.attack_step_size, loss=settings.attack_loss)
    weight = {} if settings.beta is None else {"beta": settings.beta}
    match settings.objective:
        case "natural":
            return natural()
        case "pgd-at":
            return pgd_at(attack)
        case "n-fgsm":
            return n_fgsm(threat)
        case "free-at":
            return free_at(threat, replays=settings.replays, step_size=settings.attack_step_size)
        case "trades":
            return trades(threat, **weight, steps=settings.attack_steps, step_size=settings.attack_step_size)
        case "mart":
            return mart(attack, **weight)


def validation_attack(recipe: Recipe) -> PGD:
    """What evaluates every epoch."""
    return PGD(Threat(recipe.task.norm, recipe.task.eps), steps=_VALIDATION_STEPS)


def attack_gradients(settings: Training) -> int | None:
    """How many gradients the attack of a step takes; None where the objective makes no attack apart from its loss."""
    return {"natural": None, "free-at": None, "n-fgsm": 1}.get(settings.objective, settings.attack_steps)


def method_of(settings: Pruning) -> Method:
    """The row of the table that makes the masks; for ADMM, which learns weights, the one that cuts them at the end."""
    if settings.method == ADMM:
        return LWM
    row = method_named(settings.method)
    # A setting left alone leaves a row as it is: one that was registered brings what it wants.
    if settings.estimator != _PLAIN.estimator:
        row = replace(row, estimator=ESTIMATORS[settings.estimator])
    if settings.start != _PLAIN.start and "keeps" in row.learn:
        row = replace(row, keeps=STARTS[settings.start])
    return row


def keep_rule(model: nn.Module, budget: Budget, settings: Pruning, steps: int) -> KeepRule | None:
    """How this model comes down to the budget in so many steps; None when it meets it from the start."""
    if settings.method == ADMM:
        rho = starting_rho(settings.lr, steps) if settings.admm_rho is None else settings.admm_rho
        return Admm(model, budget, steps, rho=rho, growth=settings.admm_growth, rounds=settings.admm_rounds)
    row = method_of(settings)
    if row.learn == GRADUAL and row.rule != "descent":
        how = Regrowth(settings.bird_drop, settings.bird_every, settings.bird_start, settings.bird_settle)
        return FlyingBird(model, budget, steps, method=row, how=how)
    if row.learn == GRADUAL:
        return Gradual(model, budget, steps, method=row, settle=settings.gmp_settle, every=settings.gmp_every)
    if all(mask.logit is None for mask in masks(model).values()):
        return None
    ramp = "ramp" in (settings.rule, row.rule)
    return Penalty(model, budget, Ramp(settings.gamma_step)) if ramp else Descent(model, budget, steps)


def sharpness_of(model: nn.Module, settings: Training) -> Sharpness | None:
    """The plug-in of a stage: S2AP while scores learn, AWP while weights do; None for a plain step."""
    if isinstance(settings, Pruning) and settings.s2ap_rho > 0 and learned_scores(model):
        return Sharpness(settings.s2ap_rho, learned_scores, warmup=settings.s2ap_start)
    if settings.awp_gamma > 0 and learned_weights(model):
        return Sharpness(settings.awp_gamma, learned_weights)
    return None


def targets_of(settings: Training, classes: int, teacher: nn.Module | None) -> Targets | None:
    """What labels become; None where they stay as they are."""
    if not (settings.label_smoothing or settings.distill or mixing_of(settings)):
        return None
    return Targets(classes, settings.label_smoothing, settings.distill, teacher)


def mixing_of(settings: Training) -> Mixing | None:
    """What is done to a batch; None where nothing is."""
    mixing = Mixing(settings.random_erasing, settings.cutmix, settings.rand_augment)
    return None if mixing == Mixing() else mixing


def make_course(
    stage: str,
    recipe: Recipe,
    settings: Training,
    model: nn.Module,
    images: Images,
    validate: Validate,
    *,
    budget: Budget | None = None,
    world: int = 1,
    attacked: Attacked | None = None,
    weight_step: WeightStep | None = None,
    classes: int = 0,
    teacher: nn.Module | None = None,
    validate_training: Validate | None = None,
) -> Course:
    """The course of a stage on ``world`` ranks, to be run or to be timed. ``budget`` is given while masks learn, the
    ``teacher`` for distillation, and ``classes`` where labels are not single ones. ``validate_training`` evaluates training
    images, for a rule that goes by the gap between the two."""
    threat, rule = Threat(recipe.task.norm, recipe.task.eps), None
    if isinstance(settings, Pruning) and budget is not None:
        steps = settings.epochs * steps_per_epoch(len(images), settings.batch_size, world) * settings.steps_per_batch
        rule = keep_rule(model, budget, settings, steps)
    return Course(
        stage=stage,
        settings=settings,
        objective=make_objective(settings, threat),
        images=images,
        validate=_validating(validate, rule, validate_training),
        seed=recipe.seed,
        budget=budget,
        rule=rule,
        sharpness=sharpness_of(model, settings),
        attacked=attacked,
        weight_step=weight_step,
        average=Average(model, settings.ema) if settings.ema > 0 else None,
        targets=targets_of(settings, classes, teacher),
        mixing=mixing_of(settings),
    )


def _validating(validate: Validate, rule: KeepRule | None, on_training: Validate | None) -> Validate:
    """What evaluates an epoch, with all that the rule needs from it or for it."""
    if isinstance(rule, Admm):
        return _cut_first(validate, rule)
    if isinstance(rule, FlyingBird) and rule.adaptive and on_training is not None:
        return _telling(validate, rule, on_training)
    return validate


def _telling(validate: Validate, rule: FlyingBird, on_training: Validate) -> Validate:
    """Let the rule know both accuracies under attack, when both are there."""

    def validate_both(model: nn.Module) -> tuple[float, float]:
        found, training = validate(model), on_training(model)
        rule.end_epoch(training[1], found[1])
        return found

    return validate_both


def _cut_first(validate: Validate, rule: Admm) -> Validate:
    """Evaluate what the stage will leave, not the dense weights on their way there."""

    def validate_cut(model: nn.Module) -> tuple[float, float]:
        with rule.cut():
            return validate(model)

    return validate_cut
