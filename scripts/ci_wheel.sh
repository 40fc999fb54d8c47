#!/usr/bin/env bash
# Builds the wheel and uses it as somebody would who has no checkout: in a clean environment of base packages, with
# servers (scripts/fake_openai.py); then with the extra `serve`; then with the models of this machine, on mini.
#
#   scripts/ci_wheel.sh      PYTHON: which Python (python3)     about a minute; needs .venv (make test) for the last part
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=${PYTHON:-python3}
work=$(mktemp -d)
started=()
finish() {
  for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

fail() { echo "ci_wheel: $*" >&2; exit 1; }

# Copied, so that nothing is left behind in the checkout. Every file of a package that git knows is in the wheel.
mkdir "$work/source"
git ls-files -z | tar --null --files-from=- --create | tar --extract --directory="$work/source"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work" "$work/source"
wheel=$(ls "$work"/redraft-*.whl)
"$python" - "$wheel" <<'PY'
import subprocess, sys, zipfile
packages = ("redraft/", "rewriter/", "editors/", "evaluator/", "agent/", "mini/", "eval_suites/")
known = subprocess.run(["git", "ls-files", *packages], capture_output=True, text=True, check=True).stdout.split("\n")
missing = sorted({name for name in known if name} - set(zipfile.ZipFile(sys.argv[1]).namelist()))
if missing:
    sys.exit(f"ci_wheel: the wheel lacks {missing}")
PY

"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --constraint constraints.txt "$wheel"
echo "base install: $(du -sm "$work/venv" | cut -f1) MB"
cd "$work"
export PATH="$work/venv/bin:$PATH" HF_HUB_OFFLINE=1 OPENAI_API_KEY=not-a-real-key
unset PYTHONPATH

[ "$(redraft --version)" = "$(python -c 'import redraft; print(redraft.__version__)')" ] || fail "--version"
redraft -h > /dev/null
python -c 'import redraft; assert redraft.check("three red stars", "two red stars")'

# Without an extra: one sentence that names it, and exit code 2.
refuses() {
  local extra=$1 code=0
  shift
  "$@" > /dev/null 2> "$work/refused" || code=$?
  [ "$code" = 2 ] || fail "$* without $extra: exit code $code: $(cat "$work/refused")"
  grep -q "needs the extra $extra" "$work/refused" || fail "$*: $(cat "$work/refused")"
  [ "$(wc -l < "$work/refused")" = 1 ] || fail "$*: more than a sentence: $(cat "$work/refused")"
}
refuses local redraft draw "a red star"
refuses serve redraft serve
echo "a red star" > requests.txt
refuses data redraft enhance requests.txt out.parquet --engine fake

# The profile `remote`, with all its servers replaced by the one that has no models.
python "$root/scripts/fake_openai.py" > address &
started+=($!)
for _ in $(seq 50); do [ -s address ] && break; sleep 0.1; done
profile=$(python -c 'from redraft.profiles import builtin_profiles; print(builtin_profiles()["remote"])')
sed "s#https://api.openai.com/v1#$(cat address)#" "$profile" > remote.toml
redraft draw "a red star" --profile remote.toml --out runs --seed 7 --json > drawn.json
redraft judge "$(python -c 'import json; print(json.load(open("drawn.json"))["image"])')" "a red star" \
  --profile remote.toml --json > judged.json
redraft enhance requests.txt better.jsonl --profile remote.toml --target flux --json > enhanced.json
python - <<'PY'
import json, pathlib
drawn, judged, enhanced = (json.loads(pathlib.Path(f"{name}.json").read_text()) for name in ("drawn", "judged", "enhanced"))
assert drawn["accepted"] and pathlib.Path(drawn["image"]).is_file() and pathlib.Path(drawn["trace"]).is_file(), drawn
assert judged["score"] > 0.9, judged
row = json.loads(pathlib.Path("better.jsonl").read_text())
assert enhanced["rows"] == 1 and row["status"] == "rewritten", (enhanced, row)
PY

# The server: up, well, and down when it is told to.
python -m pip install --quiet --constraint "$root/constraints.txt" "$wheel[serve]"
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
redraft serve --profile remote.toml --port "$port" --data served 2> serve.log &
server=$!
started+=("$server")
python - "$port" <<'PY' || fail "serve: $(cat serve.log)"
import sys, time, urllib.request
until = time.monotonic() + 60
while time.monotonic() < until:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/healthz", timeout=5) as reply:
            sys.exit(reply.status != 200)
    except OSError:  # not up yet
        time.sleep(0.1)
sys.exit("no answer")
PY
kill -TERM "$server"
code=0
wait "$server" || code=$?
[ "$code" = 0 ] || fail "serve ended with $code: $(cat serve.log)"

# And with the extra `local`. Its packages are those that .venv has, so that nothing of that size is installed twice.
packages=$("$root/.venv/bin/python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])')
"$root/.venv/bin/python" -m venv "$work/local"
echo "$packages" > "$("$work/local/bin/python" -c 'import site; print(site.getsitepackages()[0])')/packages.pth"
"$work/local/bin/python" -m pip install --quiet --no-deps "$wheel"
"$work/local/bin/python" - "$root" <<'PY'
import pathlib, sys
import redraft
assert not pathlib.Path(redraft.__file__).is_relative_to(sys.argv[1]), redraft.__file__
result = redraft.draw("a red star", out="runs", seed=7, limits=redraft.Limits(max_images=2, max_rounds=2))
assert result.image.is_file() and result.best_attempt.score > 0.5, result
PY
echo "the wheel works: with servers, serving, and with models of its own"
