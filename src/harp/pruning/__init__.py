"""The method: masks, budgets and strategies on any ``nn.Module``. Needs torch and nothing else."""

from .admm import Admm, starting_rho
from .budget import Budget, Ramp, Term, exact_counts, prunable_weights, weight_budget
from .descent import Descent
from .estimators import layer_sum, marginal
from .keeps import STARTS
from .lifecycle import attach_frozen_masks, attach_masks, bake_masks, freeze_masks, keep_logits, trainable
from .mask import Mask, hold_masks, masks
from .methods import ERK, GLOBAL, HARP, HYDRA, LAMP, LWM, METHODS, RANDOM, RATES_ONLY, Method
from .penalty import Penalty
from .sharpness import Sharpness, learned_scores, learned_weights, perturbed

__all__ = [
    "ERK",
    "GLOBAL",
    "HARP",
    "HYDRA",
    "LAMP",
    "LWM",
    "METHODS",
    "RANDOM",
    "RATES_ONLY",
    "STARTS",
    "Admm",
    "Budget",
    "Descent",
    "Mask",
    "Method",
    "Penalty",
    "Ramp",
    "Sharpness",
    "Term",
    "attach_frozen_masks",
    "attach_masks",
    "bake_masks",
    "exact_counts",
    "freeze_masks",
    "hold_masks",
    "keep_logits",
    "layer_sum",
    "learned_scores",
    "learned_weights",
    "marginal",
    "masks",
    "perturbed",
    "prunable_weights",
    "starting_rho",
    "trainable",
    "weight_budget",
]
