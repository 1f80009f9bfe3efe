#!/usr/bin/env bash
# All checks that need a GPU, in under four minutes. Installs nothing.
#
#     tests/gpu/run.sh gpu.json [double-nmnist.h5]
#
# Runs the GPU tests, the benchmarks of loading and training, and a training of 200 steps. The
# figures go to the first file; cards/performance.md is made from it. Without an archive, simulated
# recordings are used.
set -euo pipefail
out="$(realpath -m "${1:?give the file for the figures, such as gpu.json}")"
archive="${2:+$(realpath -m "$2")}"
cd "$(dirname "$0")/../.."
if ! python3 -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>/dev/null; then
    echo "no python3 whose torch sees a GPU; run this where there is one" >&2
    exit 2
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
# The tests mostly wait for compilers and for the start of the GPU, so four groups run at once.
threads="${OMP_NUM_THREADS:-$((($(nproc) + 3) / 4))}"
logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT
group() {
    OMP_NUM_THREADS="$threads" python3 -m pytest -q -p no:cacheprovider "$@"
}
group tests/baselines/snn/test_pooling.py >"$logs/1" 2>&1 & groups=($!)
group tests/baselines/snn/test_recurrence.py tests/test_device_frames.py >"$logs/2" 2>&1 & groups+=($!)
group tests/baselines/test_gpu.py -k trains_on >"$logs/3" 2>&1 & groups+=($!)
group tests/baselines/test_gpu.py -k "not trains_on" >"$logs/4" 2>&1 & groups+=($!)
failed=0
for process in "${groups[@]}"; do
    wait "$process" || failed=1
done
cat "$logs"/*
if [ "$failed" != 0 ]; then
    echo "tests failed; nothing was measured" >&2
    exit 1
fi
python3 tests/gpu/bench.py --out "$out" ${archive:+--archive "$archive"}
