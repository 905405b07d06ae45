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
PACKAGES := libs/hourcast services/etl services/trainer services/bento services/controller services/viz services/mlflow local
LOCKS := requirements/run.txt requirements/torch.txt $(PACKAGES:%=%/pyproject.toml)
# Images and a cluster: any builder that takes docker's flags, any loader that takes image names.
BUILDER ?= docker build
LOADER ?= kind load docker-image --name hourcast
TAG ?= dev
REGISTRY ?= docker.io/hourcast
IMAGES ?= etl trainer bento controller viz mlflow
NAMESPACE ?= hourcast
VALUES ?= charts/hourcast/values-kind.yaml
COMPILE := $(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --annotation-style=line
BUILD_ARGS := $(if $(TORCH_INDEX),--build-arg TORCH_INDEX='$(TORCH_INDEX)') $(if $(ALLOW_CUDA),--build-arg ALLOW_CUDA='$(ALLOW_CUDA)')
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help up install dev test test-all e2e check bench chaos lock clean-state images load install-chart kind-up kind-down

help: ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "make %-13s %s\n", $$1, $$2}'

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
	$(BIN)/pytest -m 'not integration and not e2e and not cluster and not recorded' $(ARGS)

test-all: dev ## all tests: recorded bars, real servers, Chromium, the whole of Hourcast as processes
	$(BIN)/pytest -m 'not cluster' $(ARGS)

e2e: dev ## prove the chart on the Kubernetes of KUBECONFIG, whose nodes have the images (`make images load`)
	$(BIN)/pytest -m cluster $(ARGS)

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
	$(COMPILE) --upgrade -o requirements/run.txt requirements/run.in
	$(COMPILE) --upgrade -o requirements/dev.txt requirements/dev.in
	@# An image's lock takes each version from run.txt, whatever its old lock said.
	for name in $(IMAGES) build; do $(COMPILE) --upgrade -o requirements/images/$$name.txt requirements/images/$$name.in || exit; done

images: $(IMAGES:%=image-%) ## build the six images; BUILDER='docker build', TAG=dev

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
