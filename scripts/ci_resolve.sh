#!/usr/bin/env bash
# Do the versions of constraints-train-vllm.txt still go together for a machine with a GPU? Resolved from the package index's
# metadata, by uv in a throwaway environment: nothing of vLLM or torch comes down. Half a minute. If the index
# does not answer within three, that is said, and is no failure of ours.
#
# pip's own dry run gets each wheel (1.2 GB), and resolves for this machine alone: beside a CPU build of torch it once found
# right what no machine with a GPU could install.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ -z ${RESOLVING:-} ]]; then
  status=0
  RESOLVING=yes timeout 180 scripts/ci_resolve.sh || status=$?
  [[ $status -ne 124 ]] || { echo "NOT CHECKED: the package index did not answer within three minutes" >&2; exit 0; }
  exit "$status"
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet 'uv>=0.9'
export UV_CACHE_DIR=$dir/cache UV_NO_CONFIG=1
[[ -z ${PIP_CERT:-} ]] || export SSL_CERT_FILE=$PIP_CERT

for version in 3.11 3.12 3.13; do
  "$dir/venv/bin/uv" pip compile --quiet --no-header --no-annotate --extra train-vllm --constraint constraints-train-vllm.txt \
    --python-version "$version" --python-platform x86_64-manylinux_2_28 --output-file "$dir/$version.txt" pyproject.toml > /dev/null
  # Whatever the constraints leave open would change from one day to the next.
  if open=$(grep -vxFf constraints-train-vllm.txt "$dir/$version.txt"); then
    echo "constraints-train-vllm.txt leaves open, under Python $version:" $open >&2
    exit 1
  fi
  echo "train-vllm resolves under Python $version: $(grep -c == "$dir/$version.txt") packages, $(grep -E '^(torch|trl|vllm)==' "$dir/$version.txt" | paste -sd ' ')"
done
