"""The method: masks, budgets and strategies on any ``nn.Module``. Needs torch and nothing else."""

from harp.pruning.admm import Admm, starting_rho
from harp.pruning.budget import Budget, Term, budget_of, density_of, weight_layers
from harp.pruning.channels import ChannelBudget, channel_budget, macs, shrink
from harp.pruning.counting import budget_of_sites, weight_budget
from harp.pruning.counts import exact_counts
from harp.pruning.descent import Descent
from harp.pruning.estimators import layer_sum, marginal
from harp.pruning.gradual import Gradual
from harp.pruning.keeps import STARTS
from harp.pruning.lifecycle import (
    attach_frozen_masks,
    attach_masks,
    bake_masks,
    freeze_masks,
    keep_logits,
    keep_zeros,
    outside_masks,
    trainable,
)
from harp.pruning.mask import Mask, hold_masks, masks
from harp.pruning.methods import (
    ERK,
    FLYING_BIRD,
    FLYING_BIRD_PLUS,
    GLOBAL,
    GMP,
    GMP_ERK,
    GMP_GLOBAL,
    GMP_LAMP,
    GRADUAL,
    HARP,
    HARP_PUBLISHED,
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
from harp.pruning.penalty import Penalty, Ramp
from harp.pruning.prunable import prunable_weights
from harp.pruning.pruner import Pruner
from harp.pruning.regrowing import FlyingBird, Regrowth
from harp.pruning.sharpness import Sharpness, learned_scores, learned_weights, perturbed
from harp.pruning.summary import Summary, summary

__all__ = [
    "ERK",
    "FLYING_BIRD",
    "FLYING_BIRD_PLUS",
    "GLOBAL",
    "GMP",
    "GMP_ERK",
    "GMP_GLOBAL",
    "GMP_LAMP",
    "GRADUAL",
    "HARP",
    "HARP_PUBLISHED",
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
    "FlyingBird",
    "Gradual",
    "Mask",
    "Method",
    "Penalty",
    "Pruner",
    "Ramp",
    "Regrowth",
    "Sharpness",
    "Summary",
    "Term",
    "attach_frozen_masks",
    "attach_masks",
    "bake_masks",
    "budget_of",
    "budget_of_sites",
    "channel_budget",
    "density_of",
    "exact_counts",
    "freeze_masks",
    "hold_masks",
    "keep_logits",
    "keep_zeros",
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
