#!/usr/bin/env bash
# All checks that need a GPU, in under four minutes. Installs nothing.
#
#     tests/gpu/run.sh gpu.json [double-nmnist.h5]
#
# Runs the benchmarks of loading and training, a training of 200 steps, and the tests for a GPU. The
# figures and the outcome of the tests go to the first file; cards/performance.md is made from it.
# Without an archive, simulated recordings are used.
set -euo pipefail
out="$(realpath -m "${1:?give the file for the figures, such as gpu.json}")"
archive="${2:+$(realpath -m "$2")}"
cd "$(dirname "$0")/../.."
if ! python3 -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>/dev/null; then
    echo "no python3 whose torch sees a GPU; run this where there is one" >&2
    exit 2
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
# The figures come first, so that they are kept if the time runs out.
python3 tests/gpu/bench.py --out "$out" ${archive:+--archive "$archive"}
python3 tests/gpu/checks.py --into "$out"
echo "all of it: $SECONDS s"
