#!/usr/bin/env bash
# Runs the tests marked `postgres` against a PostgreSQL of their own: a cluster in a temporary folder, on a socket and a
# port of 127.0.0.1, gone afterwards. Takes the server's programs where Debian puts them, or from PATH; installs them
# where there are none and this is root.
set -euo pipefail
cd "$(dirname "$0")/.."

programs() {
  local found
  found=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
  if [ -n "$found" ]; then echo "$found"; elif command -v initdb >/dev/null; then dirname "$(command -v initdb)"; fi
}

bin=$(programs)
if [ -z "$bin" ]; then
  if [ "$(id -u)" != 0 ]; then echo "no PostgreSQL here: install Debian's package postgresql" >&2; exit 1; fi
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
  bin=$(programs)
fi

# PostgreSQL does not run as root: Debian's package brings the user postgres.
as() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }

folder=$(mktemp -d)
if [ "$(id -u)" = 0 ]; then chown postgres "$folder"; fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cleanup() {
  as "$bin/pg_ctl" -D "$folder/cluster" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$folder"
}
trap cleanup EXIT

cd "$folder"
as "$bin/initdb" -D "$folder/cluster" -U redraft --auth=trust --no-sync -E UTF8 >/dev/null
as "$bin/pg_ctl" -D "$folder/cluster" -l "$folder/log" -w -t 60 start \
  -o "-p $port -k $folder -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200" >/dev/null
cd - >/dev/null

export REDRAFT_TEST_DATABASE_URL="postgresql://redraft@127.0.0.1:$port/postgres"
scripts/run_tests.sh -m postgres tests/serve "$@"
