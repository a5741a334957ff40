#!/usr/bin/env bash
# safetensors writes two or more metadata entries in an order that differs from process to process.
#
# safetensors 0.8.0, numpy 2.4.6. Expected: the same tensors with the same metadata are the same bytes, so that a file can
# be known by its hash. Seen: the header holds the entries in any order, and 20 fresh processes write several different
# files; with one entry they all write the same. PYTHONHASHSEED is 0 throughout: the order is that of a hash map in Rust.
# Exits with 1 if that is no longer so. Everything stays in a temporary folder that is deleted at the end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$work"
cat > write.py <<'PYTHON'
import hashlib
import sys

import numpy as np
from safetensors.numpy import save

metadata = {name: "x" for name in sys.argv[1]}
print(hashlib.sha256(save({"weight": np.zeros(3, np.float32)}, metadata)).hexdigest()[:16])
PYTHON
distinct() { for _ in $(seq 20); do PYTHONHASHSEED=0 "$work/venv/bin/python" write.py "$1"; done | sort -u | wc -l; }
one=$(distinct a)
four=$(distinct abcd)
echo "20 processes wrote $one different files with one metadata entry, $four with four"
[ "$one" -eq 1 ] && [ "$four" -gt 1 ]
