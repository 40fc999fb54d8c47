#!/usr/bin/env bash
# Node's clients against a server of fakes: OpenAI's own package and the AI SDK, at the versions below.
#
#   scripts/ci_clients.sh      about half a minute; needs .venv (make test), node 20, and npm's registry for the packages
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
command -v node > /dev/null || { echo "ci_clients: there is no node here; skipped"; exit 0; }
work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

cp scripts/clients/node.mjs "$work/"
(cd "$work" && npm init --yes > /dev/null && npm install --silent --no-audit --no-fund openai@6.49.0 ai@6.0.326 @ai-sdk/openai@3.0.141) ||
  { echo "ci_clients: npm could not fetch the packages; skipped"; exit 0; }

port=$(python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
"$root/.venv/bin/python" -m tests.serve.serve_driver "$work/data" "$port" 0.01 1 2> "$work/log" &
server=$!
for _ in $(seq 600); do
  curl --silent --fail --output /dev/null "http://127.0.0.1:$port/readyz" && break
  kill -0 "$server" 2>/dev/null || { cat "$work/log"; exit 1; }
  sleep 0.1
done
(cd "$work" && node node.mjs "http://127.0.0.1:$port") || { cat "$work/log" >&2; exit 1; }
