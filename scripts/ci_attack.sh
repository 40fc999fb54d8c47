#!/usr/bin/env bash
# Generated requests (schemathesis, from /api/openapi.json) against a real server with fake models: no answer is a 500, and
# each is one that OpenAPI names: REQUESTS of them and more (1,000), from SEED on. Then what hostile clients do to others, full
# disks at MOMENTS moments of each command (3), and INTERLEAVINGS of what happens to turns (20). docs/security.md has the
# figures of longer runs.
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
.venv/bin/python -c "import schemathesis" 2>/dev/null ||
  .venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,attack]'
.venv/bin/python scripts/attack/generated_requests.py --requests "${REQUESTS:-1000}" --seed "${SEED:-1}"
scripts/run_tests.sh -m attack tests/serve/test_serve_hostile.py tests/agent/test_full_disk.py -n 0 --timeout 900
INTERLEAVINGS="${INTERLEAVINGS:-20}" scripts/run_tests.sh tests/serve/test_serve_turns.py -n 0 --timeout 900
