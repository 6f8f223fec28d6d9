#!/usr/bin/env bash
# All that wants a GPU, in one go and in under ten minutes, on a bare machine with torch, nvcc and no network: builds the
# package, runs the operators' tests on the GPU and, beside them, the four tools of compute-sanitizer over a short list,
# then every benchmark, and the longer tests. The most important comes first, should time run out; a part that fails does
# not stop the others. Writes DATE-gpu.json and log.txt under $OUT (build/gpu by default), prints a table last and exits
# non-zero where anything failed.
#
#   benchmarks/gpu.sh                   the whole of it
#   benchmarks/gpu.sh kernels training  these parts alone, of a package that is installed: with more time for each;
#                                       `python -m benchmarks.gpu_report ALL.json ONE.json ...` makes one of the files
#   benchmarks/gpu.sh --dry             the same ways at toy sizes on the CPU, building nothing: a test of this script
#
# PYTHON names the interpreter (python3), LIMIT the seconds for all (570). Wheels in ./.whl are used where there are any.
set -uo pipefail
cd "$(dirname "$0")/.."
export PYTHON=${PYTHON:-python3} PYTHONUNBUFFERED=1
PARTS="install tests-ops memcheck racecheck initcheck synccheck kernels end_to_end mask_loss training tests-gpu tests-train"
OUT=${OUT:-build/gpu}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$OUT/log.txt"
deadline=$((SECONDS + ${LIMIT:-570}))

# part NAME SECONDS COMMAND...: runs it within so many seconds, and within what is left; notes status and time.
part() {
  local name=$1 limit=$2 left=$((deadline - SECONDS)) began=$SECONDS status
  shift 2
  if [[ " $wanted " != *" $name "* ]]; then return; fi
  if ((left < limit)); then limit=$left; fi
  if ((limit < 1)); then limit=1; fi
  echo "== $name"
  timeout --kill-after=5 "$limit" "$@" >"$work/$name.log" 2>&1
  status=$?
  printf '%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - began))" >>"$work/parts"
  { echo "== $name: $*"; cat "$work/$name.log"; } >>"$OUT/log.txt"
  if ((status)); then tail -n 15 "$work/$name.log"; fi
}

tests() {  # the options that every run of the tests has, and the file for its counts
  echo -m pytest -q -p no:cacheprovider --junitxml="$work/$1.xml"
}

install() {
  YOLACT_CUDA_ARCHS=$("$PYTHON" -c 'import torch; print("{}{}".format(*torch.cuda.get_device_capability()))') &&
    export YOLACT_CUDA_ARCHS YOLACT_CUDA=1 &&
    { "$PYTHON" -m pip install --disable-pip-version-check -e . --no-build-isolation --no-deps ||
      "$PYTHON" setup.py -q build_ext --inplace; }
}
export PATH=$PATH:/usr/local/cuda/bin  # where compute-sanitizer lies when nothing says so
export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH}
export -f install

if [[ ${1:-} == --dry ]]; then
  wanted=$PARTS
  part tests-ops 100 "$PYTHON" $(tests tests-ops) tests/ops/test_preprocess.py -k cuda
  part memcheck 10 a-sanitizer-that-is-not-here
  part kernels 200 "$PYTHON" -m benchmarks.kernels --device toy --json "$work/kernels.json"
  part end_to_end 60 "$PYTHON" -m benchmarks.cuda_end_to_end --device toy --json "$work/end_to_end.json"
  part tests-gpu 100 "$PYTHON" $(tests tests-gpu) tests/gpu
else
  wanted=${*:-$PARTS}
  for name in $wanted; do
    if [[ " $PARTS " != *" $name "* ]]; then echo "no part is named $name; there are $PARTS" >&2; exit 2; fi
  done
  if compgen -G ".whl/*.whl" >/dev/null; then
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$work/site" .whl/*.whl
  fi
  export YOLACT_REQUIRE=gpu
  part install 150 bash -c install
  # Side by side, as each leaves the GPU idle most of the time. Every allocation of torch's is one of its own, so that
  # an access past its end is seen. What torch's own kernels write no tool sees: gradients would look uninitialised, and
  # so would products that are copied to the host.
  for tool in memcheck racecheck initcheck synccheck; do
    selection=()
    if [[ $tool == initcheck ]]; then selection=(-k "not backward"); fi
    part "$tool" 120 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --kernel-name kns=yolact \
      --check-api-memory-access no --report-api-errors no --error-exitcode 99 \
      "$PYTHON" -m pytest -q -p no:cacheprovider tests/gpu/test_short.py "${selection[@]}" &
  done
  workers=$("$PYTHON" -c 'import xdist' 2>/dev/null && echo "-n 8")
  part tests-ops 120 "$PYTHON" $(tests tests-ops) $workers tests/ops -k cuda
  wait
  left=$((deadline - SECONDS - ($# ? 20 : 190)))  # where nothing is named, so much for the parts below
  part kernels "$left" "$PYTHON" -m benchmarks.kernels --device cuda --seconds 1.5 --json "$work/kernels.json" \
    --minutes "$("$PYTHON" -c "print(max(0, $left - 15) / 60)")"
  part end_to_end 90 "$PYTHON" -m benchmarks.cuda_end_to_end --seconds 4 --json "$work/end_to_end.json"
  part mask_loss 40 "$PYTHON" -m benchmarks.mask_loss --device cuda --seconds 1.5 --json "$work/mask_loss.json"
  part training 60 "$PYTHON" -m benchmarks.training --device cuda --precision bf16 --seconds 3 \
    --json "$work/training.json"
  part tests-gpu 150 "$PYTHON" $(tests tests-gpu) tests/gpu --ignore tests/gpu/test_training.py
  part tests-train 240 "$PYTHON" $(tests tests-train) tests/gpu/test_training.py
fi

"$PYTHON" -m benchmarks.gpu_report "$OUT/$(date -u +%F)-gpu.json" "$work"
