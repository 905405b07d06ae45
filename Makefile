# Every target is also a CI step. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
SOURCE ?= live
AS_OF ?=
REPLAY ?=
STATE ?= .hourcast
ARGS ?=
TORCH_INDEX ?=
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PACKAGES := libs/hourcast services/etl services/trainer services/bento services/controller services/viz local
LOCKS := requirements/run.txt requirements/torch.txt $(PACKAGES:%=%/pyproject.toml)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help up install dev test test-all check bench chaos lock clean-state

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "make %-12s %s\n", $$1, $$2}'

up: install ## run everything: SOURCE=live | files:DIR | sample, AS_OF=2025-06-26, REPLAY=8w
	@exec $(BIN)/hourcast up --source '$(SOURCE)' --state-dir '$(STATE)' $(if $(AS_OF),--as-of '$(AS_OF)') $(if $(REPLAY),--replay '$(REPLAY)') $(ARGS)

install: .venv/.run ## make the virtual environment and install what runs (locked)

dev: .venv/.dev ## install what checks and tests need as well

.venv/bin/python:
	@if [ -z "$(PYTHON)" ]; then echo "Hourcast needs Python 3.11 or newer, and none is on the PATH; install it, or say PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@echo "making the virtual environment with $(PYTHON)"
	@$(PYTHON) -m venv .venv

.venv/.run: .venv/bin/python $(LOCKS)
	@echo "installing locked dependencies (about 200 packages; minutes the first time, seconds afterwards)"
	@$(BIN)/python requirements/torch_build.py $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)')
	@$(BIN)/pip install --quiet -r requirements/run.txt
	@$(BIN)/pip install --quiet -c requirements/run.txt -r requirements/torch.txt $(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)')
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation $(PACKAGES:%=-e %)
	@touch $@

.venv/.dev: .venv/.run requirements/dev.txt
	@$(BIN)/pip install --quiet -r requirements/dev.txt
	@touch $@

test: dev ## tests that need nothing beside the checkout
	$(BIN)/pytest -m 'not integration and not e2e and not recorded' $(ARGS)

test-all: dev ## all tests: recorded bars, real servers, Chromium, the whole of Hourcast as processes
	$(BIN)/pytest $(ARGS)

check: dev ## lint, types, contracts between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy libs/hourcast/src services/*/src local/src
	$(BIN)/lint-imports

bench: dev ## ratios measured in one run
	$(BIN)/python -m bench $(ARGS)

chaos: dev ## kill twenty random processes during a replay, and see that all stays whole
	$(BIN)/python -m bench.chaos $(ARGS)

lock: dev ## refresh the locks
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --annotation-style=line -o requirements/run.txt requirements/run.in
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --annotation-style=line -o requirements/dev.txt requirements/dev.in

clean-state: ## remove the state folder, after asking (YES=1: without)
	@if [ ! -d '$(STATE)' ]; then echo "there is no $(STATE)"; exit 0; fi; \
	if [ "$(YES)" != 1 ]; then read -r -p "remove $(STATE) with all bars, models and events? [y/N] " answer; [ "$$answer" = y ] || { echo "kept"; exit 0; }; fi; \
	rm -rf -- '$(STATE)' && echo "removed $(STATE)"
