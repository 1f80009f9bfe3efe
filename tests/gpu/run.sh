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
python3 -m pytest -q -p no:cacheprovider tests/baselines/test_gpu.py \
    tests/baselines/snn/test_recurrence.py tests/baselines/snn/test_pooling.py \
    tests/test_device_frames.py
python3 tests/gpu/bench.py --out "$out" ${archive:+--archive "$archive"}
