#!/usr/bin/env bash
# ncnn.Mat takes the memory of a numpy array and ignores its strides.
#
# ncnn 1.0.20261020, numpy 2.4.6. Expected: ncnn.Mat(image.transpose(2, 0, 1)), the usual way from height, width, channel to
# channel, height, width, holds the transposed image. Seen: it holds the numbers in the order they had before, in the new shape, and nothing
# is said; np.ascontiguousarray first gives the right one.
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

image = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 3)
planes = image.transpose(2, 0, 1)
as_it_is, copied = (np.array(ncnn.Mat(array)) for array in (planes, np.ascontiguousarray(planes)))
print("first plane:", planes[0].tolist(), "in ncnn.Mat:", as_it_is[0].tolist(), "after a copy:", copied[0].tolist())
sys.exit(not (as_it_is.shape == planes.shape and not np.array_equal(as_it_is, planes) and np.array_equal(copied, planes)))
PYTHON
