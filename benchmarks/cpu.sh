#!/usr/bin/env bash
# Peers side by side on MNIST, on the same cores: plain PyTorch, hotlap, scikit-learn, Keras on JAX, tinygrad.
#
#     benchmarks/cpu.sh [--seeds 10] [--rounds 1] [--only NAMES] [--threads N] [--peers-venv FOLDER] [--table]
#
# Results are appended to benchmarks/results/cpu-mnist.jsonl as they come; the same call goes on where it was stopped.
# The peers' packages go into an environment of their own, build/peers-venv. benchmarks/cpu.py --help says the rest.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../.venv/bin/python}
[ -x "$(command -v "$python")" ] || { echo "no Python at $python: run make first, or set PYTHON" >&2; exit 2; }
export PYTHONPATH="$here/../src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "$python" "$here/cpu.py" "$@"
