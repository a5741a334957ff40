#!/usr/bin/env bash
# Importing MNN's Python converter runs pip and changes the environment it is imported in.
#
# MNN 3.6.1, protobuf 7.36.2. Expected: `import MNN.tools.mnnconvert` imports a module. Seen: it installs more than a dozen packages for
# usage logs with the first pip on the PATH, and in doing so moves the protobuf that was there from 7.36.2 to 5.29. A benchmark that
# converts and then times other engines in the same environment times other versions than it printed. Keep it in one of its own.
# Exits with 1 if that is no longer so. Everything stays in a temporary folder that is deleted at the end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet MNN==3.6.1 protobuf==7.36.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import os
import subprocess
import sys

folder = os.path.dirname(sys.executable)
alone = os.environ | {"PATH": folder + os.pathsep + os.environ["PATH"]}


def installed() -> dict[str, str]:
    lines = subprocess.run([sys.executable, "-m", "pip", "freeze"], env=alone, capture_output=True, text=True, check=True)
    return dict(line.split("==") for line in lines.stdout.split() if "==" in line)


before = installed()
subprocess.run([sys.executable, "-c", "import MNN.tools.mnnconvert"], env=alone, capture_output=True)
after = installed()
print(f"{len(before)} packages before the import, {len(after)} after; new: {', '.join(sorted(after.keys() - before.keys()))}")
print(f"protobuf {before['protobuf']} before, {after['protobuf']} after")
sys.exit(not (len(after) > len(before) + 10 and before["protobuf"] != after["protobuf"]))
PYTHON
