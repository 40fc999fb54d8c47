#!/usr/bin/env bash
# scripts/run_tests.sh PYTEST-ARGUMENTS: runs the tests; should some fail, those run once more, alone. What fails twice has failed.
# What passes alone is still a fault, of the test or of what it tests, that a busy machine brought to light: it stands whole in
# the output, and is to be mended.
set -uo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
python="${VENV:-.venv}/bin/python"
"$python" -m pytest "$@"
code=$?
[ "$code" -eq 1 ] || exit "$code"  # 1: some tests failed; anything else is no matter of tests
echo "Those that failed, once more, one after the other:"
exec "$python" -m pytest "$@" -n 0 --last-failed --last-failed-no-failures none
