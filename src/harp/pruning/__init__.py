"""The method: masks, budgets and strategies on any ``nn.Module``. Needs torch and nothing else."""

from .admm import Admm, starting_rho
from .budget import Budget, Term, budget_of, density_of, weight_budget, weight_layers
from .channels import ChannelBudget, channel_budget, macs, shrink
from .counts import exact_counts
from .descent import Descent
from .estimators import layer_sum, marginal
from .keeps import STARTS
from .lifecycle import (
    attach_frozen_masks,
    attach_masks,
    bake_masks,
    freeze_masks,
    keep_logits,
    outside_masks,
    trainable,
)
from .mask import Mask, hold_masks, masks
from .methods import (
    ERK,
    GLOBAL,
    HARP,
    HYDRA,
    LAMP,
    LWM,
    METHODS,
    RANDOM,
    RATES_ONLY,
    Method,
    method_named,
    register_method,
)
from .penalty import Penalty, Ramp
from .prunable import prunable_weights
from .pruner import Pruner
from .sharpness import Sharpness, learned_scores, learned_weights, perturbed
from .summary import Summary, summary

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
    "ChannelBudget",
    "Descent",
    "Mask",
    "Method",
    "Penalty",
    "Pruner",
    "Ramp",
    "Sharpness",
    "Summary",
    "Term",
    "attach_frozen_masks",
    "attach_masks",
    "bake_masks",
    "budget_of",
    "channel_budget",
    "density_of",
    "exact_counts",
    "freeze_masks",
    "hold_masks",
    "keep_logits",
    "layer_sum",
    "learned_scores",
    "learned_weights",
    "macs",
    "marginal",
    "masks",
    "method_named",
    "outside_masks",
    "perturbed",
    "prunable_weights",
    "register_method",
    "shrink",
    "starting_rho",
    "summary",
    "trainable",
    "weight_budget",
    "weight_layers",
]
