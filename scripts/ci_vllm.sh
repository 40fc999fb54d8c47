#!/usr/bin/env bash
# The tests with real vLLM servers on the CPU: looks whether the versions for training with vLLM fit together, builds the
# environment if it is missing, then runs them. About six minutes on two cores, most of them downloads and starts; ends after twenty in any case.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1

scripts/ci_resolve.sh
timeout 600 scripts/vllm_cpu/install.sh
timeout 900 scripts/run_tests.sh -m vllm --durations=5 tests/vllm
