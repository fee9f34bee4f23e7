# Every target sets up what it needs in .venv; the second time that takes no time.
PYTHON ?= python3
BIN := .venv/bin
ONLY ?=
SOAK_MINUTES ?= 60
export TAPELINE_HOME ?= $(CURDIR)/.tapeline
# Feast imports a thousand modules: let their bytecode be kept in .venv.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check bench docs soak up down clean lock proto
.DEFAULT_GOAL := help

help:  ## show the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

.venv/uv: requirements/uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tapeline needs Python 3.11 or newer; name one with: make PYTHON=python3.11 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock
	@touch $@

.venv/run: .venv/uv requirements/run.lock pyproject.toml
	@echo "Installing packages (Prepared: download; Installed: copying into .venv) …"
	@$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements/run.lock >.venv/install.log 2>&1 || { cat .venv/install.log; exit 1; }
	@grep -E '^(Prepared|Installed)' .venv/install.log || true
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps -e .
	@touch $@

.venv/dev: .venv/run requirements/dev.lock
	@$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements/dev.lock >.venv/install.log 2>&1 || { cat .venv/install.log; exit 1; }
	@grep -E '^(Prepared|Installed)' .venv/install.log || true
	@touch $@

demo: .venv/run  ## the whole path on packaged data: ingest, features, export, train, serve, verify
	@$(BIN)/tapeline demo

test: .venv/dev  ## all tests, against real PostgreSQL, TimescaleDB and Redis
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: .venv/dev  ## lint, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/dev  ## measure against the peers (ONLY=name or group)
	@$(BIN)/python -m benchmarks $(ONLY)

docs: .venv/dev  ## write the feature pages and the type stub again
	@$(BIN)/python -m docs.tooling

soak: .venv/dev  ## universal tests of Feast, then random tests for SOAK_MINUTES
	@SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/python -m tests.soak

up: .venv/run  ## start PostgreSQL and Valkey in .tapeline
	@$(BIN)/tapeline up

down:  ## stop them
	@test ! -x $(BIN)/tapeline || $(BIN)/tapeline down

clean:  ## stop the servers, remove the environment and all data
	@test ! -x $(BIN)/tapeline || $(BIN)/tapeline down --erase --yes
	@test ! -x $(BIN)/tapeline || TAPELINE_HOME=$(TAPELINE_HOME)/demo $(BIN)/tapeline down --erase --yes
	rm -rf .venv .tapeline out dist build report.html benchmarks/results benchmarks/.peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

proto: .venv/dev  ## generate the gRPC stubs again
	@$(BIN)/python proto/generate.py

lock: .venv/uv  ## resolve the dependencies again
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --extra all -o requirements/run.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --extra all --group dev -c requirements/run.lock -o requirements/dev.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/uv.in -o requirements/uv.lock
