#!/usr/bin/env bash
# Serves a vision-language model by vLLM on a GPU: the one of the profile `workstation` (PORT=8000 GPU_SHARE=0.40), which rewrites, makes
# checklists and judges, or a judge beside other models. vLLM stands in an environment of its own: activate it first.
#
#   scripts/serve_judge.sh [ARGUMENTS...]             ARGUMENTS are handed to vLLM and win over what stands here
#   MODEL=FOLDER_OR_ID   other weights, such as a judge of your own; NAME is what the profile calls it
#   PORT=8001  HOST=127.0.0.1  GPU_SHARE=0.35 (of the card's memory)  GPUS=1 (tensor parallel)  MAX_LEN=16384
#   MAX_PIXELS=1048576 (pictures above are made smaller before they are read)
set -euo pipefail

model=${MODEL:-Qwen/Qwen3-VL-8B-Instruct}

# Four pictures a request (two edits are compared beside their source) and no video: no memory is set aside for more. The checks
# of a picture share all but the question: the prefix cache and the cache of processed pictures read the picture once.
exec vllm serve "$model" \
  --served-model-name "${NAME:-Qwen/Qwen3-VL-8B-Instruct}" \
  --host "${HOST:-127.0.0.1}" --port "${PORT:-8001}" \
  --dtype bfloat16 --max-model-len "${MAX_LEN:-16384}" \
  --gpu-memory-utilization "${GPU_SHARE:-0.35}" --tensor-parallel-size "${GPUS:-1}" \
  --max-num-seqs 64 --max-num-batched-tokens 16384 \
  --limit-mm-per-prompt '{"image": 4, "video": 0}' --mm-processor-kwargs "{\"max_pixels\": ${MAX_PIXELS:-1048576}}" \
  --mm-processor-cache-gb 2 --enable-prefix-caching --generation-config vllm \
  --no-enable-log-requests --disable-uvicorn-access-log "$@"
