#!/usr/bin/env bash
# __builtin_cpu_supports of a program compiled by Zig answers no for every instruction set that the CPU has.
#
# ziglang 0.17.1 (the compiler from PyPI, used to build manylinux wheels without a container). Expected, as with GCC and Clang:
# after __builtin_cpu_init() it answers 1 for sse4.2 and avx2 on a CPU whose /proc/cpuinfo lists them. Seen: 0 for both, for a
# target of glibc 2.17. A library that dispatches its kernels by it silently runs the slowest ones.
# Exits with 1 if that is no longer so, with 2 where the CPU has no AVX2. Everything stays in a temporary folder.
set -euo pipefail
grep -qw avx2 /proc/cpuinfo || { echo "this CPU has no AVX2"; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 ZIG_GLOBAL_CACHE_DIR="$work/cache" ZIG_LOCAL_CACHE_DIR="$work/cache"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet ziglang==0.17.1
cd "$work"
cat > supports.cpp <<'CPP'
#include <cstdio>
int main() {
  __builtin_cpu_init();
  std::printf("sse4.2 %d avx2 %d\n", !!__builtin_cpu_supports("sse4.2"), !!__builtin_cpu_supports("avx2"));
}
CPP
"$work/venv/bin/python" -m ziglang c++ -O1 -target x86_64-linux-gnu.2.17 supports.cpp -o supports
seen=$(./supports)
echo "ziglang 0.17.1: $seen; /proc/cpuinfo lists both"
[ "$seen" = "sse4.2 0 avx2 0" ]
