"""A trained network as a file: sparse for `harp.runtime`, ONNX for everyone else. `run` exports finished runs."""

from .agreement import Agreement
from .files import Exported, export
from .onnx import write_onnx
from .rebuilding import rebuild
from .sparse import refresh, sparse_module
from .tracing import trace

__all__ = ["Agreement", "Exported", "export", "rebuild", "refresh", "sparse_module", "trace", "write_onnx"]
