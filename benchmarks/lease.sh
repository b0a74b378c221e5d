#!/usr/bin/env bash
# A GPU that is lent for minutes: what is wanted most comes first, every step has a limit, and nothing runs past MINUTES.
#
#     benchmarks/lease.sh OUT MINUTES [--peer FILE] [other options of gpu.py]
#
# In this order: tests/fused, tests/gpu, five runs of cifar10/record, peers, losses against the CPU's, pooling with and
# without kept places, products in float8, and the rest of the programme. OUT gets few files: a log of each step, two
# tables, and results.tar.gz with everything else. Unpacked into RESULTS (build/gpu when that is not set), it lets the next
# call go on from there. What a CPU can do is done beforehand, and again
# after a change of what networks compute:
#
#     rm benchmarks/results/gpu_references.jsonl
#     benchmarks/gpu.sh build/references --parts references --device cpu --minutes 60 \
#       --references benchmarks/results/gpu_references.jsonl
#
# The machine needs the data sets in HOTLAP_DATA: recipes whose images are not there are left out.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
usage="usage: lease.sh OUT MINUTES [options of gpu.py]"
out=${1:?$usage}
end=$((60 * ${2:?$usage}))
shift 2
results=${RESULTS:-$here/../build/gpu}
python=${PYTHON:-python3}
mkdir -p "$out" "$results"
out=$(cd "$out" && pwd)
results=$(cd "$results" && pwd)
export PYTHONPATH="$here/../src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
case " $* " in
  *" --tiny "*) how="-n 0 --collect-only" ;; # a rehearsal
  # A line for each test: where the time runs out, the log says how far they came.
  *) how="-n 4 -vv --tb=short" && set -- --references "$here/results/gpu_references.jsonl" "$@" ;;
esac

step() { # step NAME SECONDS COMMAND…
  local name=$1 limit=$2 status=0
  shift 2
  ((limit < end - SECONDS)) || limit=$((end - SECONDS))
  if ((limit < 10)); then
    echo "$name: no time is left"
    return 1
  fi
  timeout --kill-after=10 "$limit" "$@" >>"$out/$name.log" 2>&1 || status=$?
  echo "$name: status $status after $SECONDS s of $end"
  tail -n 12 "$out/$name.log"
  return $status
}

programme() { # programme NAME SECONDS OPTIONS…
  local name=$1 limit=$2 status=3 work
  shift 2
  # CUDA refuses everything after an error (3), or the process ended by itself (SIGABRT, SIGSEGV): the next goes on behind it.
  for _ in 1 2 3; do
    ((status == 3 || status == 134 || status == 139)) || break
    ((limit < end - SECONDS)) || limit=$((end - SECONDS))
    # Half a minute to end what has begun.
    ((work = limit > 60 ? limit - 30 : limit / 2))
    step "$name" "$limit" "$here/gpu.sh" "$results" --bundle "$out/results.tar.gz" \
      --minutes "$(printf '%d.%02d' $((work / 60)) $((work % 60 * 100 / 60)))" "$@"
    status=$?
  done
}

cd "$here/.." || exit 2
# shellcheck disable=SC2086
step tests-fused 60 "$python" -m pytest -p no:benchmark $how tests/fused
# shellcheck disable=SC2086
step tests-gpu 150 "$python" -m pytest -p no:benchmark $how tests/gpu
programme record 75 --parts records --only cifar10/record --seeds 5 "$@"
case " $* " in *" --peer"*) programme peers 290 --parts peers "$@" ;; esac
programme correctness 120 --parts correctness "$@"
case " $* " in
  *" --tiny "*) ;; # needs a GPU
  *)
    step fused 45 "$python" "$here/fused_norms.py" "$out/fused.jsonl" --recompute
    step fp8 30 "$python" "$here/fp8_speed.py" "$out/fp8.jsonl"
    ;;
esac
programme rest "$end" --parts records,mnist,short,profile,memory,cifar "$@"
