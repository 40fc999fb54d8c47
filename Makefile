# On Linux, PyPI's torch brings several gigabytes of CUDA along. On a machine without a GPU:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make draw
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PROMPT ?= Could you draw two little scarlet stars over a big blue disc, on cream paper, but no hearts please?
PROMPTS ?= rewriter/small/prompts.txt
BETTER ?= work/better.jsonl
TARGET ?= flux

.PHONY: help draw enhance serve test test-wheel check format bench results train-mini vllm vllm-judge vllm-install test-vllm clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/redraft: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local,ocr]'
	@touch $@

$(VENV)/.dev: $(BIN)/redraft
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

draw: $(BIN)/redraft  ## set up and draw PROMPT with the mini profile
	$(BIN)/redraft draw "$(PROMPT)"

enhance: $(BIN)/redraft  ## set up and rewrite PROMPTS, a file of real prompts, with the profile small (gets its weights: 93 MB)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[small]'
	$(BIN)/redraft get small
	@mkdir -p $(dir $(BETTER))
	$(BIN)/redraft enhance $(PROMPTS) $(BETTER) --profile small --target $(TARGET)
	@head -n 5 $(BETTER)

serve: $(BIN)/redraft  ## set up and serve the chat page with the mini profile at http://127.0.0.1:8765
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local,ocr,serve]'
	$(BIN)/redraft serve

test: $(VENV)/.dev  ## set up and run the tests, on WORKERS processes
	VENV=$(VENV) scripts/run_tests.sh -n $(WORKERS) --dist worksteal

test-wheel: $(VENV)/.dev  ## build the wheel and use it in clean environments: with servers, serving, with mini
	scripts/ci_wheel.sh

check: $(VENV)/.dev  ## lint, types, layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## the benchmarks, each against its baseline (benchmarks/enhance_engines.py needs `make vllm-install`)
	$(BIN)/python benchmarks/cli_start.py
	$(BIN)/python benchmarks/cold_draw.py
	$(BIN)/python benchmarks/loop_overhead.py
	$(BIN)/python benchmarks/judge_prefix.py
	$(BIN)/python benchmarks/devices.py
	$(BIN)/python benchmarks/judge_suite.py
	$(BIN)/python benchmarks/render_batch.py
	$(BIN)/python benchmarks/enhance_rows.py --rows 100000
	$(BIN)/python benchmarks/grpo_step.py
	$(BIN)/python benchmarks/serve_conversations.py --repeats 1

results: $(VENV)/.dev  ## the figures of docs/results.md (about half an hour)
	$(BIN)/redraft eval cutouts --limit 500 --tables docs/results --out work/eval/cutouts

train-mini: $(VENV)/.dev  ## the mini models from nothing, then GRPO, DPO and their figures (some hours)
	$(BIN)/python -m mini.generator.train
	$(BIN)/python -m mini.generator.generated
	$(BIN)/python -m mini.judge.train --generated work/mini/generated.npz
	for seed in 0 1; do $(BIN)/python -m mini.reader.data --seed $$seed --count 7000 --out work/mini/reader/$$seed.npz || exit; done
	$(BIN)/python -m mini.reader.train
	$(BIN)/python -m mini.rewriter.train
	$(BIN)/python -m mini.rewriter.train --once 0.75 --max-steps 1200 --work work/mini/rewriter_once --out work/mini/sft
	$(BIN)/python -m mini.rewriter.train --once 0.75 --max-steps 1200 --no-thoughts --work work/mini/rewriter_once_plain \
	  --out work/mini/sft_plain
	$(BIN)/python -m mini.editor.train
	$(BIN)/python -m mini.rewriter.write_data
	$(BIN)/python -m rewriter.train.undecided work/mini/prompts.jsonl work/mini/undecided.jsonl --model work/mini/sft \
	  --style package:mini/rewriter/style --top-p 0.95 --max-tokens 256 --count 1300
	for seed in 0 1 2; do $(BIN)/python -m rewriter.train.grpo --config package:mini/rewriter/grpo.yaml --seed $$seed --output_dir work/mini/grpo-$$seed || exit; done
	$(BIN)/redraft eval cutouts-rewriters --data work/mini --tables docs/training --out work/eval/rewriters
	mkdir -p work/mini/equal && head -n 256 work/mini/undecided.jsonl >work/mini/equal/requests.jsonl && cp -r work/mini/sft work/mini/equal/
	$(BIN)/redraft enhance work/mini/equal/requests.jsonl work/mini/equal/pairs.jsonl --profile mini/rewriter/pairs.toml \
	  --n 8 --thought --judge --images 2
	for seed in 0 1 2; do $(BIN)/python -m rewriter.train.dpo --config package:mini/rewriter/dpo.yaml --seed $$seed \
	  --output_dir work/mini/equal/dpo-$$seed || exit; done
	for seed in 0 1 2; do $(BIN)/python -m rewriter.train.grpo --config package:mini/rewriter/grpo.yaml --seed $$seed \
	  --train_files work/mini/equal/requests.jsonl --max_steps 16 --lr_scheduler_type constant_with_warmup \
	  --output_dir work/mini/equal/grpo-$$seed || exit; done
	$(BIN)/redraft eval cutouts-rewriters --data work/mini/equal --no-loop --out work/eval/dpo

vllm: vllm-install  ## serve the mini rewriter by vLLM on the CPU, at 127.0.0.1:8000 (--profile scripts/vllm_cpu/profile.toml)
	scripts/vllm_cpu/serve.sh rewriter

vllm-judge: vllm-install  ## serve the mini judge by vLLM on the CPU, at 127.0.0.1:8001
	scripts/vllm_cpu/serve.sh judge

vllm-install:  ## set up .venv-vllm: vLLM on the CPU, beside nothing else
	PYTHON="$(PYTHON)" scripts/vllm_cpu/install.sh

test-vllm: $(VENV)/.dev  ## the tests with real vLLM servers (CPU)
	scripts/ci_vllm.sh

clean:  ## remove what the tools left behind, but no runs and no weights
	rm -rf $(VENV) .venv-vllm build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
