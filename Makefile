# The commands of the house. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
DATA ?= shapes
BIN := $(VENV)/bin
# Waiting threads must not spin: on shared cores that costs more than everything else (docs of OpenMP, OMP_WAIT_POLICY).
QUIET := OMP_WAIT_POLICY=PASSIVE
# A process for each core, up to 8; the tests of a file share one, and with it their fixtures.
PARALLEL := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# PyPI's torch for Linux brings CUDA, several gigabytes. Without an NVIDIA GPU the CPU build is installed, 190 MB.
# TORCH_INDEX= (empty) takes PyPI's; TORCH_INDEX=URL takes another index of torch's.
TORCH_INDEX ?= $(shell command -v nvidia-smi >/dev/null 2>&1 || echo https://download.pytorch.org/whl/cpu)
# Those that need no argument and nothing that isn't installed.
FIGURES := conformance explain gradient_rollout matmul_rates rollout step_profile training_step video video_properties

.DEFAULT_GOAL := help
.PHONY: help setup chromium demo test test-slow check format bench

help: ## list these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.ready $(VENV)/.chromium ## make .venv with all that Vitreous and its tests need, and Chromium

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --retries 0 -c constraints.txt --extra-index-url $(TORCH_INDEX) torch)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Tried once; `make chromium` tries again.
$(VENV)/.chromium: | $(VENV)/.ready
	@$(BIN)/python benchmarks/chromium.py
	@touch $@

chromium: $(VENV)/.ready ## install Chromium, in which the tests drive the pages (by apt as root, else by Playwright)
	@$(BIN)/python benchmarks/chromium.py

demo: $(VENV)/.ready ## train, evaluate, explain, video: the whole chain (DATA=shapes, cifar10 or mnist)
	$(BIN)/vitreous demo --data $(DATA)

test: setup ## all tests
	$(QUIET) $(BIN)/python -m pytest $(PARALLEL)

test-slow: setup ## all tests, with those that kill runs and start several processes
	VITREOUS_SLOW=1 $(QUIET) $(BIN)/python -m pytest $(PARALLEL)

check: setup ## format, lint, types, import contracts, house test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ty check vitreous
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/house

format: setup ## put the source into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## the figures that Vitreous claims, each with its baseline (an hour; some need shared/data)
	for script in $(FIGURES); do echo "== $$script"; $(BIN)/python benchmarks/$$script.py || exit 1; done
	$(BIN)/python benchmarks/recipes.py cifar10-70 --baseline tutorial
	$(BIN)/python benchmarks/recipes.py cifar10-quick
