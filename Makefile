# The commands of the house. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
DATA ?= shapes
BIN := $(VENV)/bin
# Waiting threads must not spin: on shared cores that costs more than everything else (docs of OpenMP, OMP_WAIT_POLICY).
QUIET := OMP_WAIT_POLICY=PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench

help: ## list these targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1|/' | awk -F'|' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## make .venv with all that Vitreous and its tests need

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## train, evaluate, explain, video: the whole chain (DATA=shapes, cifar10 or mnist)
	$(BIN)/vitreous demo --data $(DATA)

test: setup ## all tests
	$(QUIET) $(BIN)/python -m pytest

check: setup ## format, lint, types, import contracts, house test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ty check vitreous
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_house.py

format: setup ## put the source into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## the figures that Vitreous claims, each with its baseline
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done
