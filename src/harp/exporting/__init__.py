"""A trained network as a file: sparse for `harp.runtime`, ONNX for everyone else. `run` exports finished runs."""

from harp.exporting.agreement import Agreement
from harp.exporting.files import Exported, export
from harp.exporting.learning import Learner
from harp.exporting.onnx import write_onnx
from harp.exporting.rebuilding import rebuild
from harp.exporting.sparse import Mirror, sparse_module
from harp.exporting.tracing import trace

__all__ = ["Agreement", "Exported", "Learner", "Mirror", "export", "rebuild", "sparse_module", "trace", "write_onnx"]
