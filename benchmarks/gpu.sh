#!/usr/bin/env bash
# The whole GPU programme: correctness, our recipes, peers, ladders, profile, memory; most important first.
#
#     benchmarks/gpu.sh OUT [--minutes 9] [--peer FILE[=RECIPE]]… [--tiny --device cpu]
#
# Each call stops starting new work after --minutes and can be interrupted at any time: results are appended to OUT as
# they come, and the next call goes on where this one stopped. benchmarks/gpu.py --help says the rest;
# benchmarks/lease.sh is for a GPU that is lent for minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?"usage: gpu.sh OUT [options of gpu.py]"}
shift
export PYTHONPATH="$here/../src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" "$here/gpu.py" --out "$out" "$@"
