#!/usr/bin/env bash
# Clicks through the page in headless Chromium: the tests marked `browser`, against real servers on 127.0.0.1. Installs
# Debian's Chromium where there is none and this is root, and the extra `browser`.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null; then
  if [ "$(id -u)" != 0 ]; then echo "no Chromium here: install Debian's package chromium" >&2; exit 1; fi
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,browser]'

export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 REDRAFT_CHROMIUM="$(command -v chromium)"
scripts/run_tests.sh -m browser tests/browser "$@"
