#!/usr/bin/env bash
# Generated requests (schemathesis, from /api/openapi.json) against a real server with fake models: no answer is a 500, and
# each is one that OpenAPI names. About REQUESTS of them (10,000), SEED as given. Then what hostile clients do to others.
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
.venv/bin/python -c "import schemathesis" 2>/dev/null ||
  .venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,attack]'
.venv/bin/python scripts/attack/generated_requests.py --requests "${REQUESTS:-10000}" --seed "${SEED:-1}"
.venv/bin/python -m pytest tests/serve/test_serve_hostile.py -n 0
