"""Generated requests against a real server with fake models, until there were so many: `--requests 10000 --seed 1`.

schemathesis makes them from /api/openapi.json, valid and invalid ones. Fails if an answer is a 500, or one that OpenAPI does
not name, or if there is a traceback in the server's log. The stream of events is left out: it has no end.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.serve.processes import Process  # noqa: E402

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
AT_ONCE = 100
"""Requests for each operation in one go of schemathesis."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    statuses: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        with Process.driver(data, seconds=0.0) as server:
            seed = options.seed
            while statuses.total() < options.requests:
                code = run(server.url, seed)
                log = next(Path(folder).glob("*.log")).read_text()
                statuses = Counter(map(int, re.findall(r'"event": "request".*?"status": (\d+)', log)))
                print(f"seed {seed}: {statuses.total()} requests, {dict(sorted(statuses.items()))}", flush=True)
                if code or statuses[500] or "Traceback" in log or '"level": "error"' in log:
                    lines = [line for line in log.splitlines() if '"level": "error"' in line]
                    print("\n".join(lines[:5]) or "see above", file=sys.stderr)
                    return 1
                seed += 1
            server.end(signal.SIGTERM)
    print(json.dumps({"requests": statuses.total(), "statuses": {str(k): v for k, v in sorted(statuses.items())}}))
    return 0


def run(url: str, seed: int) -> int:
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{url}/api/openapi.json", "--checks", CHECKS, "--seed", str(seed),
        "--phases", "examples,coverage,fuzzing", "--max-examples", str(AT_ONCE), "--exclude-path-regex", "/events$",
        "--continue-on-failure", "--request-timeout", "200", "--suppress-health-check", "all", "--warnings", "off",
        "--no-shrink", "--max-failures", "20", "--workers", "2",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:], file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
