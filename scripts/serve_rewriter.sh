#!/usr/bin/env bash
# Serves a rewriter by vLLM on a GPU, for a profile whose rewriter is not the judge's model. vLLM stands in an environment of its own:
# activate it first.
#
#   scripts/serve_rewriter.sh [ARGUMENTS...]          ARGUMENTS are handed to vLLM and win over what stands here
#   MODEL=FOLDER_OR_ID   other weights, such as a rewriter of your own; NAME is what the profile calls it
#   PORT=8000  HOST=127.0.0.1  GPU_SHARE=0.30 (of the card's memory)  GPUS=1 (tensor parallel)  MAX_LEN=8192
set -euo pipefail

model=${MODEL:-Qwen/Qwen3-8B}

# Every request begins with the same instructions of a thousand tokens: the prefix cache reads them once. Batches send
# many short requests, so the batch may be wide; the lengths are bounded by the profile's max_tokens.
exec vllm serve "$model" \
  --served-model-name "${NAME:-Qwen/Qwen3-8B}" \
  --host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" \
  --dtype bfloat16 --max-model-len "${MAX_LEN:-8192}" \
  --gpu-memory-utilization "${GPU_SHARE:-0.30}" --tensor-parallel-size "${GPUS:-1}" \
  --max-num-seqs 256 --max-num-batched-tokens 8192 \
  --enable-prefix-caching --generation-config vllm \
  --no-enable-log-requests --disable-uvicorn-access-log "$@"
