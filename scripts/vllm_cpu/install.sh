#!/usr/bin/env bash
# Builds .venv-vllm: vLLM on the CPU, in an environment of its own, in which redraft's batches run too.
#
#   scripts/vllm_cpu/install.sh      PYTHON: which Python (python3)   VENV_VLLM: where (.venv-vllm)
#
# torch's CPU build does not lie on PyPI for Linux: export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu,
# unless pip finds it in another way. About 1.5 GB come down; pip keeps them in its cache. Nothing is done where it is
# built already.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${VENV_VLLM:-.venv-vllm}
wanted=scripts/vllm_cpu/requirements.txt

if cmp -s "$wanted" "$venv/.installed"; then
  exit 0
fi
[[ -x $venv/bin/python ]] || "${PYTHON:-python3}" -m venv "$venv"

install() {
  "$venv/bin/python" -m pip install --quiet --timeout 120 --retries 5 --requirement "$wanted"
}
install || { echo "the installation failed; once more" >&2; sleep 10; install; }

# vLLM lists them for models that hear. PyPI's wheels are built for CUDA; beside the CPU build of torch they fail when
# transformers or vLLM imports them, and both do without where they are not there.
"$venv/bin/python" -m pip uninstall --quiet --yes torchaudio torchcodec

PYTHONPATH=scripts/vllm_cpu "$venv/bin/python" -c 'import torchvision, vllm' > /dev/null
cp "$wanted" "$venv/.installed"
