# Every target makes its own environment first: Python 3.11+ and pip are all a machine needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench bench-extract bench-scaling bench-contracts bench-train bench-decode bench-scoring bench-scores bench-reuse bench-machine docs coverage faults audit clean lock

demo: .venv/ready
	$(BIN)/captioning train --profile demo

test: .venv/ready-dev
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: .venv/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Each benchmark ends with one JSON line of ratios.
bench: bench-machine bench-extract bench-scaling bench-contracts bench-train bench-decode bench-scores bench-scoring bench-reuse

bench-extract: .venv/ready-dev
	$(BIN)/python -m tests.benchmarks.extract

bench-scaling: .venv/ready-dev
	$(BIN)/python -m tests.benchmarks.scaling

bench-contracts: .venv/ready-dev
	$(BIN)/python -m tests.benchmarks.contracts

bench-train: .venv/ready-dev
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m tests.benchmarks.training

bench-decode: .venv/ready-dev
	$(BIN)/python -m tests.benchmarks.decoding

bench-scores: .venv/ready-dev
	$(BIN)/python -m tests.benchmarks.scores

bench-scoring: .venv/ready-dev
	$(BIN)/python -m tests.benchmarks.scoring

bench-reuse: .venv/ready-dev
	$(BIN)/python -m tests.benchmarks.reuse

bench-machine: .venv/ready-dev
	$(BIN)/python -m tests.benchmarks.machine

# The page of all data contracts, written from the suites.
docs: .venv/ready
	$(BIN)/python -m data_contracts.document > docs/contracts.md

# Lines and branches that the tests of one's own parts reach, not counting what only the flows' tests do.
coverage: .venv/ready-dev
	$(BIN)/pytest -n 3 --dist loadfile --cov --cov-report term tests/components tests/data_contracts

# What survives being killed at random moments; `make test` has a short form of it.
faults: .venv/ready-dev
	$(BIN)/pytest tests/faults --kills 212

# The environment and the tools' caches. What runs left in mlruns is kept: there are models in it.
clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Known weaknesses of what is locked; asks the network.
audit: .venv/ready
	$(BIN)/uv tool run pip-audit --requirement requirements-dev.lock --no-deps --disable-pip

COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock"

lock: .venv/ready
	$(COMPILE) -o requirements.lock
	$(COMPILE) --extra dev --constraint requirements.lock -o requirements-dev.lock

# Compiled here, once: where Python is told to write no bytecode, each start of a command would take ten seconds longer.
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	@echo "Installing the packages of requirements.lock into .venv: 3.2 GB, a minute or more"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

# What tests, checks and benchmarks need besides: Spark, Ray, a driver for the browser, servers that stand in for others.
.venv/ready-dev: .venv/ready requirements-dev.lock
	@echo "Installing the packages of requirements-dev.lock into .venv: 1.5 GB more"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements-dev.lock
	touch $@
