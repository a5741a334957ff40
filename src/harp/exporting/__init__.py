"""A trained network as a file: sparse for `harp.runtime`, ONNX for everyone else. `run` exports finished runs."""

from harp.exporting.agreement import Agreement
from harp.exporting.files import Exported, export
from harp.exporting.learning import Learner
from harp.exporting.onnx import write_onnx
from harp.exporting.rebuilding import rebuild
from harp.exporting.sparse import Mirror, plain_copy, sparse_module, tensors_of
from harp.exporting.tracing import trace

__all__ = [
    "Agreement",
    "Exported",
    "Learner",
    "Mirror",
    "export",
    "plain_copy",
    "rebuild",
    "sparse_module",
    "tensors_of",
    "trace",
    "write_onnx",
]
