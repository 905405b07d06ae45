# Every target is also a CI step. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
SOURCE ?=
AS_OF ?=
REPLAY ?=
STATE ?= .hourcast
ARGS ?=
TORCH_INDEX ?=
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
ASKED_FOR := $(if $(PYTHON),--this-python)
ifeq ($(PYTHON),)
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3.14 python3 python; do $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
endif
BIN := .venv/bin
# Tests call make themselves, as a person would: not as a part of this one.
PYTEST := env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL $(BIN)/pytest
# Images and a cluster: any builder that takes docker's flags, any loader that takes image names.
BUILDER ?= docker build
LOADER ?= kind load docker-image --name hourcast
# The tag of a release, which is what the chart asks for.
TAG ?= $(shell sed -n 's/^appVersion: *//p' charts/hourcast/Chart.yaml)
REGISTRY ?= docker.io/hourcast
IMAGES ?= etl trainer bento controller viz mlflow
NAMESPACE ?= hourcast
# A bare machine for `make bare`.
BASE ?= docker.io/library/python:3.13-slim-trixie
HOW ?= once
VALUES ?= charts/hourcast/values-kind.yaml
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --only-binary :all: --python-version 3.11 --strip-extras --no-header --annotation-style=line
BUILD_ARGS := $(if $(TORCH_INDEX),--build-arg TORCH_INDEX='$(TORCH_INDEX)') $(if $(ALLOW_CUDA),--build-arg ALLOW_CUDA='$(ALLOW_CUDA)')
export TORCH_INDEX ALLOW_CUDA
# Packages that a user's shell offers to every Python stay out of ours.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP

.PHONY: help up install dev test test-all test-integration test-others e2e check bench chaos lock bare clean-state images load install-chart kind-up kind-down

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: install ## run everything: SOURCE=live | files:DIR | sample, AS_OF=2025-06-26, REPLAY=8w
	@exec $(BIN)/hourcast up $(if $(SOURCE),--source '$(SOURCE)') --state-dir '$(STATE)' $(if $(AS_OF),--as-of '$(AS_OF)') $(if $(REPLAY),--replay '$(REPLAY)') $(ARGS)

INSTALL = @if ! '$(or $(PYTHON),false)' -c '$(SUPPORTED)' 2>/dev/null; then \
	found=$$('$(or $(PYTHON),python3)' --version 2>&1 | grep -Eo '^Python [0-9.]+'); \
	echo "Hourcast needs Python 3.11, 3.12, 3.13 or 3.14; '$(or $(PYTHON),python3)' is $${found:-not to be found}. Install one of them, or name it: make … PYTHON=/path/to/python3.13" >&2; exit 1; fi; \
	'$(PYTHON)' requirements/install.py

install: ## make the virtual environment, or mend it, and install what runs (locked)
	$(INSTALL) run $(ASKED_FOR)

dev: ## install what checks and tests need as well
	$(INSTALL) dev $(ASKED_FOR)

test: dev ## tests that need nothing beside the checkout
	$(PYTEST) -m 'not integration and not e2e and not cluster and not recorded' $(ARGS)

# Both halves wait for servers most of the time, so that side by side they take little longer than one.
test-all: dev ## all tests: recorded bars, real servers, Chromium, the whole of Hourcast as processes
ifneq ($(ARGS),)
	$(PYTEST) -m 'not cluster' $(ARGS)
else
	@log=$$(mktemp) && trap 'rm -f "$$log"' EXIT && code=0 && \
	{ $(MAKE) --no-print-directory --keep-going --jobs=2 test-integration test-others LOG="$$log" || code=1; } && cat "$$log" && exit $$code
endif

test-integration:
	@$(PYTEST) -m 'not cluster' tests/integration --ignore tests/integration/mlflow --ignore tests/integration/etl >'$(or $(LOG),/dev/stdout)' 2>&1

test-others:
	@$(PYTEST) -m 'not cluster' tests/unit tests/e2e tests/integration/mlflow tests/integration/etl

e2e: dev ## prove the chart on the Kubernetes of KUBECONFIG, whose nodes have the images (`make images load`)
	$(PYTEST) -m cluster $(ARGS)

check: dev ## lint, types, contracts between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy libs/hourcast/src services/*/src local/src
	$(BIN)/lint-imports
	$(BIN)/python requirements/check_locks.py

bench: dev ## ratios measured in one run
	$(BIN)/python -m bench $(ARGS)

chaos: dev ## kill twenty random processes during a replay, and see that all stays whole
	$(BIN)/python -m bench.chaos $(ARGS)

lock: dev ## refresh the locks
	@# One version of each package for all Pythons and systems (markers say where one is left out).
	$(COMPILE) --universal --fork-strategy fewest -o requirements/run.txt requirements/run.in >/dev/null
	$(COMPILE) --universal --fork-strategy fewest -o requirements/dev.txt requirements/dev.in >/dev/null
	@# An image's lock takes each version from run.txt, whatever its old lock said.
	for name in common $(IMAGES) build uv; do $(COMPILE) --python-platform x86_64-manylinux_2_28 -o requirements/images/$$name.txt requirements/images/$$name.in >/dev/null || exit; done

bare: ## prove on a bare machine that what README says works: BASE=docker.io/library/python:3.13-slim-trixie, HOW=once|served
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && git archive -o "$$folder/hourcast.tar" HEAD && cp tests/bare/* "$$folder" && \
	$(BUILDER) --no-cache -t $(REGISTRY)/bare:$(TAG) --build-arg BASE='$(BASE)' --build-arg HOW='$(HOW)' -f "$$folder/Dockerfile" "$$folder"

images: $(IMAGES:%=image-%) ## build the six images; BUILDER='docker build', TAG=0.1.0

image-%: ## build one of them: image-bento
	$(BUILDER) -t $(REGISTRY)/$*:$(TAG) -f services/$*/Dockerfile $(if $(filter trainer,$*),$(BUILD_ARGS)) .

load: ## put the images on the cluster's nodes; LOADER='kind load docker-image --name hourcast'
	$(LOADER) $(IMAGES:%=$(REGISTRY)/%:$(TAG))

kind-up: ## make a kind cluster, build and load the images, install the chart
	kind get clusters 2>/dev/null | grep -qx hourcast || kind create cluster --config kind-config.yaml
	$(MAKE) images load install-chart

install-chart: ## install or upgrade the chart on the cluster of KUBECONFIG; NAMESPACE=hourcast, VALUES=…
	kubectl create namespace $(NAMESPACE) --dry-run=client -o yaml | kubectl apply -f -
	kubectl label --overwrite namespace $(NAMESPACE) pod-security.kubernetes.io/enforce=restricted
	helm upgrade --install hourcast charts/hourcast -f $(VALUES) --set images.tag=$(TAG) -n $(NAMESPACE) $(ARGS)

kind-down: ## remove the kind cluster with everything in it
	kind delete cluster --name hourcast

clean-state: ## remove the state folder, after asking (YES=1: without)
	@if [ ! -d '$(STATE)' ]; then echo "there is no $(STATE)"; exit 0; fi; \
	if [ "$(YES)" != 1 ]; then read -r -p "remove $(STATE) with all bars, models and events? [y/N] " answer; [ "$$answer" = y ] || { echo "kept"; exit 0; }; fi; \
	rm -rf -- '$(STATE)' && echo "removed $(STATE)"
