# Everything that continuous integration runs, by one word each. `make help` lists the words.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export DO_NOT_TRACK := 1
export OMP_WAIT_POLICY := passive

.PHONY: setup up down test check format bench bench-graph bench-up bench-pit bench-online-read bench-serve bench-drift bench-autoscaling faults overload lock proto clean help

setup: .venv/.ready ## Make .venv with everything, from the lock

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"mlway needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: run `make setup PYTHON=/path/to/python3.12`")'
	@$(PYTHON) -m venv .venv
	@awk '/^[a-z]/ { is_uv = /^uv==/ } is_uv' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

up: setup ## Start everything, build the graph, ask for one prediction; Ctrl-C stops it
	@$(BIN)/mlway up $(ARGS)

down: setup ## Stop everything
	@$(BIN)/mlway down

test: setup ## Run all tests
	@$(BIN)/python -m pytest $(ARGS)

check: setup ## Format, lint, types, import layers, Dagster definitions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports > /tmp/mlway-import-layers.txt || { cat /tmp/mlway-import-layers.txt; exit 1; }
	@DAGSTER_HOME= $(BIN)/dagster definitions validate -w workspace.yaml

format: setup ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: bench-graph bench-up bench-pit bench-online-read bench-serve bench-drift ## Run every benchmark

bench-graph: setup ## The graph against a plain script of the same functions
	@$(BIN)/python benchmarks/graph.py

bench-up: setup ## `mlway up` from nothing against a no-op Ray Serve application
	@$(BIN)/python benchmarks/up.py

bench-pit: setup ## Point-in-time joins against Polars, DuckDB and the stock Feast stores
	@$(BIN)/python benchmarks/pit.py

bench-online-read: setup ## One read of 20 online features against Feast's SDK, on SQLite and Redis
	@$(BIN)/python benchmarks/online_read.py

proto: setup ## Compile serving/proto
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. serving/proto/open_inference.proto

bench-serve: setup ## The endpoint against a hand-written service and a no-op
	@$(BIN)/python benchmarks/serve.py

bench-drift: setup ## Drift of 100,000 rows x 30 columns against Evidently's preset, and against SciPy
	@$(BIN)/python benchmarks/drift.py

bench-autoscaling: setup ## Replicas that grow and shrink with load, with a picture
	@$(BIN)/python benchmarks/autoscaling.py

faults: setup ## What load sees while replicas, HAProxy and the controller are killed
	@$(BIN)/python benchmarks/faults.py

overload: setup ## Twice what the endpoint can do: latency of what is accepted, refusals, memory
	@$(BIN)/python benchmarks/overload.py

lock: setup ## Resolve requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --group dev pyproject.toml --output-file requirements.lock

clean: ## Remove the environment, the state and every cache
	@if [ -x $(BIN)/mlway ]; then $(BIN)/mlway down; fi
	@rm -rf .venv .mlway .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
