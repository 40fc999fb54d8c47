#!/usr/bin/env bash
# Serves a mini model by vLLM on the CPU, at 127.0.0.1 only. `profile.toml` beside this file names both servers.
#
#   scripts/vllm_cpu/serve.sh rewriter [PORT] [ARGUMENTS...]     8000 by default
#   scripts/vllm_cpu/serve.sh judge    [PORT] [ARGUMENTS...]     8001
#   MODEL=FOLDER: other weights. What stands in ARGUMENTS is handed to vLLM.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${VENV_VLLM:-.venv-vllm}/bin/python

what=${1:-}
case $what in
  rewriter)
    port=${2:-8000}
    model=${MODEL:-mini/weights/rewriter}
    ;;
  judge)
    port=${2:-8001}
    model=work/mini/served-judge
    "$python" -m mini.judge.export "$model" ${MODEL:+--weights "$MODEL"}
    ;;
  *)
    echo "usage: $0 rewriter|judge [PORT] [ARGUMENTS...]" >&2
    exit 2
    ;;
esac
shift $(($# < 2 ? $# : 2))

# Threads: by default vLLM ties its threads to cores, those of every server to the same ones.
# Cache: what the mini models need at most, 512 tokens each for a few hundred requests.
export VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} VLLM_CPU_KVCACHE_SPACE=1
export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1 PYTHONPATH=scripts/vllm_cpu

# `vllm serve` looks for a distribution of another name, so the entry point itself is called. Without --enforce-eager
# the start compiles for a minute or two. With chunked prefill vLLM 0.32 ends on a CPU when the prompt of a seeded
# request is read in two steps ("CPU Generator does not use offset").
exec "$python" -m vllm.entrypoints.launchers.api_server.entry \
  --model "$model" --served-model-name "mini-$what" --host 127.0.0.1 --port "$port" \
  --dtype float32 --max-model-len 512 --max-num-seqs 256 --enforce-eager --enable-prefix-caching \
  --no-enable-chunked-prefill --max-num-batched-tokens 4096 \
  --no-enable-log-requests --disable-uvicorn-access-log "$@"
