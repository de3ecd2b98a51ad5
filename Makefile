# SocialFleet. `make help` lists the targets.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
# A path may hold quotes, $ and backquotes: as it was typed it goes through the environment, which nobody expands.
override WORLD := $(value WORLD)
override TIER := $(value TIER)
export WORLD TIER
.PHONY: help up setup test faults bench check format lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

up: $(VENV)/.runtime ## run the fleet in the foreground (WORLD=path, TIER=name: the sandbox's; Ctrl-C stops it)
	@exec $(BIN)/socialfleet up $${WORLD:+--world "$$WORLD"} $${TIER:+--tier "$$TIER"}

setup: $(VENV)/.runtime ## make .venv with the locked dependencies, run nothing

# What has bounds in seconds gets the machine to itself. Of the rest most wait for something most of the time, so three files
# run side by side. Where ARGS leave nothing of one part, pytest says 5.
test: $(VENV)/.dev ## set up and pass every test (ARGS="-k name" narrows, ARGS="-n 0" runs one at a time)
	@$(BIN)/python -m pytest -m "acceptance or timed" $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest -m "not acceptance and not timed" -n 3 --dist loadfile --no-loadscope-reorder $(ARGS) || [ $$? -eq 5 ]

faults: $(VENV)/.dev ## kill and stop at random (SUITE=mentions|manager|coordination|limits FORM=short|long SEED=n MUTANT=name)
	@$(BIN)/python -m tests.fault.$${SUITE:-mentions} --form $${FORM:-short} --seed $${SEED:-1} $${MUTANT:+--mutant "$$MUTANT"}

bench: $(VENV)/.bench ## measure beside peers, into benchmarks/results (ONLY=name for one)
	@$(BIN)/python -m benchmarks $${ONLY:+--only "$$ONLY"}

check: $(VENV)/.dev ## format, lint, strict types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## put the code into its format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(VENV)/.dev ## write the locks anew from pyproject.toml
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links --extra bench -c requirements-dev.lock pyproject.toml -o requirements-bench.lock

clean: ## remove what make made: the environment, the caches and the state directory (stop the fleet first)
	@if [ -x $(BIN)/socialfleet ]; then $(BIN)/socialfleet clean; fi
	@rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: '$(PYTHON)' is not Python 3.11 or later. Install it, or name it: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: '$(PYTHON)' lacks the venv module. Install it (Debian, Ubuntu: apt install python3-venv)."; exit 1; }
	@[ -w . ] || { echo "make: '$(CURDIR)' is not writable by $$(id -un). Clone into a directory of your own."; exit 1; }
	@echo "[setup] making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.python requirements.lock pyproject.toml
	@echo "[setup] installing the locked dependencies"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@echo "[setup] installing the locked development tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.bench: $(VENV)/.dev requirements-bench.lock
	@echo "[setup] installing the locked peers of the benchmarks"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@
