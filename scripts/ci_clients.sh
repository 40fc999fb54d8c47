#!/usr/bin/env bash
# Clients that are no dependencies of ours against a server of fakes, at the versions below: OpenAI's package for Node and the AI SDK,
# and OpenAI's Agents SDK for Python in an environment of its own.
#
#   scripts/ci_clients.sh      about a minute; needs .venv (make test), node 20, and the registries of npm and Python
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

port=$(python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
REDRAFT_TEST_GATE="$work/gate" "$root/.venv/bin/python" -m tests.serve.serve_driver "$work/data" "$port" 0.01 1 2> "$work/log" &
server=$!
for _ in $(seq 600); do
  curl --silent --fail --output /dev/null "http://127.0.0.1:$port/readyz" && break
  kill -0 "$server" 2>/dev/null || { cat "$work/log"; exit 1; }
  sleep 0.1
done

if ! command -v node > /dev/null; then
  echo "ci_clients: there is no node here; its clients are skipped"
else
  cp scripts/clients/node.mjs "$work/"
  if (cd "$work" && npm init --yes > /dev/null && npm install --silent --no-audit --no-fund openai@6.49.0 ai@6.0.326 @ai-sdk/openai@3.0.141); then
    (cd "$work" && node node.mjs "http://127.0.0.1:$port") || { cat "$work/log" >&2; exit 1; }
  else
    echo "ci_clients: npm could not fetch the packages; skipped"
  fi
fi

if "$root/.venv/bin/python" -m venv "$work/agents" && "$work/agents/bin/pip" install --quiet openai-agents==0.24.0 openai==3.54.0; then
  "$work/agents/bin/python" scripts/clients/agents_sdk.py "http://127.0.0.1:$port" fake || { cat "$work/log" >&2; exit 1; }
else
  echo "ci_clients: pip could not fetch openai-agents; skipped"
fi
