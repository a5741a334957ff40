#!/usr/bin/env bash
# safetensors.numpy.save writes the memory of an array, not its elements in order.
#
# safetensors 0.8.0, numpy 2.4.6. Expected: save(array), then load, gives the array back, or an error as
# safetensors.torch gives for a tensor that is not contiguous. Seen: an array in Fortran order comes back with the right
# shape and its numbers in other places, and so does a transposed one. Nothing is said.
# Exits with 1 if that is no longer so. Everything stays in a temporary folder that is deleted at the end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
from safetensors.numpy import load, save

weight = np.arange(6, dtype=np.float32).reshape(2, 3)
cases = {"in Fortran order": np.asfortranarray(weight), "transposed": weight.T}
scrambled = 0
for name, array in cases.items():
    back = load(save({"weight": array}))["weight"]
    print(f"{name}: saved {array.tolist()}, loaded {back.tolist()}")
    scrambled += back.shape == array.shape and not np.array_equal(back, array)
assert np.array_equal(load(save({"weight": weight}))["weight"], weight)
sys.exit(scrambled != len(cases))
PYTHON
