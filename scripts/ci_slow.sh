#!/usr/bin/env bash
# What `make test` has no time for: each moment to be killed at, every key, longer texts, real servers under load. About ten
# minutes on two cores; what is here is tested in `make test` too, at fewer moments or with fewer examples.
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
scripts/run_tests.sh -m slow -n "${WORKERS:-2}" --dist worksteal --timeout 900
