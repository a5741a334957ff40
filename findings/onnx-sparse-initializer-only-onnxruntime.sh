#!/usr/bin/env bash
# A sparse initializer, part of ONNX since IR version 5, is read by onnxruntime alone.
#
# onnx 1.23.2, onnxruntime 1.32.0, openvino 2026.4.1. Expected: a weight stored as sparse_initializer is a weight for
# every ONNX reader, ONNX's own checker and reference evaluator first of all. Seen: onnxruntime computes the right product.
# onnx.checker with full_check finds an input of rank 0, onnx.reference looks for a field that the message does not have, and
# OpenVINO does not find the node. So a pruned network cannot be made smaller this way and stay portable.
# Exits with 1 if that is no longer so. Everything stays in a temporary folder that is deleted at the end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

random = np.random.default_rng(0)
weight = random.standard_normal((64, 64)).astype(np.float32)
weight[random.random(weight.shape) > 0.05] = 0
places = np.flatnonzero(weight)
values = numpy_helper.from_array(weight.ravel()[places], "w")
sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(places.astype(np.int64), "w_places"), weight.shape)
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in "xy")
graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], sparse_initializer=[sparse])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
content, image = model.SerializeToString(), random.standard_normal((1, 64)).astype(np.float32)

session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
right = np.allclose(session.run(None, {"x": image})[0], image @ weight, atol=1e-5)
print("onnxruntime:", "the right product" if right else "another product")
others = {
    "onnx.checker": lambda: onnx.checker.check_model(model, full_check=True),
    "onnx.reference": lambda: ReferenceEvaluator(model).run(None, {"x": image}),
    "openvino": lambda: openvino.Core().read_model(content),
}
refused = 0
for name, read in others.items():
    try:
        read()
        print(f"{name}: reads it")
    except Exception as error:
        refused += 1
        print(f"{name}: {type(error).__name__}: {str(error).strip().splitlines()[-1][:110]}")
sys.exit(not (right and refused == len(others)))
PYTHON
