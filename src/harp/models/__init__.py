"""Networks as plain nn.Modules, and the names under which public checkpoints know them."""

from harp.models.build import MODELS, build_model
from harp.models.names import match_names
from harp.models.normalise import Normalize, Normalized

__all__ = ["MODELS", "Normalize", "Normalized", "build_model", "match_names"]
