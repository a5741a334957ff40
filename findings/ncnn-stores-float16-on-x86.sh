#!/usr/bin/env bash
# ncnn's Python package rounds float32 weights to float16 on an x86 processor by default.
#
# ncnn 1.0.20261020, numpy 2.4.6. Expected: float16 storage is for ARM and GPUs; on x86 float32 stays float32. Seen: an inner
# product of 512 x 512 is 4e-4 off by default, and below 1e-6 once use_fp16_storage, use_fp16_packed and use_fp16_arithmetic are False. A
# processor without F16C may not show it.
# Exits with 1 if that is no longer so. Everything stays in a temporary folder that is deleted at the end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet ncnn==1.0.20261020 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import ncnn
import numpy as np

n, random = 512, np.random.default_rng(0)
weight, x = (random.standard_normal(shape).astype(np.float32) for shape in ((n, n), n))
with open("net.param", "w") as file:
    file.write(f"7767517\n2 2\nInput in 0 1 x 0={n}\nInnerProduct product 1 1 x y 0={n} 1=0 2={n * n}\n")
with open("net.bin", "wb") as file:
    file.write(bytes(4) + weight.tobytes())  # four zero bytes: float32 follows
errors = {}
for half in (True, False):
    net = ncnn.Net()
    if not half:
        net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    assert net.load_param("net.param") == net.load_model("net.bin") == 0
    extractor = net.create_extractor()
    extractor.input("x", ncnn.Mat(x))
    y = np.array(extractor.extract("y")[1])
    errors[half] = float(np.abs(y - weight @ x).max() / np.abs(weight @ x).max())
    print("by default" if half else "with float16 off", f"relative error {errors[half]:.1e}")
sys.exit(not (errors[True] > 5e-5 and errors[False] < 1e-6))
PYTHON
