# Everything a person or a machine does with this repository. `make` alone says what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
SEED ?= 1
PYTEST := $(PYTHON) -m pytest --randomly-seed $(SEED)
# Tests against API servers mostly wait; full clusters still have the machine for themselves (tests/support/sharing.py).
WORKERS ?= 2
SHARED := --numprocesses $(WORKERS)
ROOT := $(shell test "$$(id -u)" = 0 && echo yes || echo no)

# Built once, with progress, and before any test's clock runs.
PREPARE = @python3 localkube binary >/dev/null && python3 localkube helm >/dev/null

# Full clusters need root: network namespaces, mounts, containerd.
FULL_CLUSTER_TESTS := tests/e2e tests/faults
ifeq ($(ROOT),yes)
TESTS := tests/unit tests/pod tests/cluster $(FULL_CLUSTER_TESTS)
else
TESTS := tests/unit tests/pod tests/cluster
endif

.PHONY: help
help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# -- the tools ---------------------------------------------------------------------------------------

.PHONY: env
env: $(INSTALLED) ## Make .venv with every tool and both packages (again only when a lock changed)

$(INSTALLED): requirements/dev.txt requirements/uv.txt operator/pyproject.toml inference_pod/pyproject.toml .ci/env
	@bash .ci/env $(VENV)
	@touch $@

.PHONY: check
check: env ## Lint, format, types, layers, generated files
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy -p edgefleet -p edgepod -p demo -p bench
	$(VENV)/bin/mypy -p localkube
	$(VENV)/bin/lint-imports
	$(PYTHON) docs/generate.py --check

.PHONY: generate
generate: env ## Write the chart copies of the CRDs and docs/reference anew
	$(PYTHON) docs/generate.py

# -- tests -------------------------------------------------------------------------------------------

.PHONY: test
test: env ## Every test; without root all but those on full clusters
ifneq ($(ROOT),yes)
	@echo "not root: leaving out $(FULL_CLUSTER_TESTS) (full clusters need network namespaces); run 'sudo make test' for those"
endif
	$(PREPARE)
	$(PYTEST) $(SHARED) $(TESTS)
ifneq ($(ROOT),yes)
	@echo "not root: $(FULL_CLUSTER_TESTS) were left out"
endif

.PHONY: test-fast
test-fast: env ## Tests that need no cluster, under two minutes
	$(PYTEST) $(SHARED) tests/unit tests/pod

.PHONY: test-cluster
test-cluster: env ## Tests against a real API server (no root)
	$(PREPARE)
	$(PYTEST) $(SHARED) tests/cluster

.PHONY: test-e2e
test-e2e: env ## The demo's story with asserts, on full clusters (root)
	$(PYTEST) tests/e2e

.PHONY: test-faults
test-faults: env ## Operator and agent killed at each kind of write, on full clusters (root, long)
	$(PYTEST) -m soak tests/faults/killed_test.py

.PHONY: soak
soak: env ## The searches that are sampled in `make test`, long and with fresh seeds
	$(PYTHON) -m pytest -m soak --timeout 0 tests

# -- seeing it run -----------------------------------------------------------------------------------

.PHONY: demo
demo: ## A hub and two sites on this machine, four models, one story (root)
	@python3 demo/preflight.py
	@$(MAKE) --no-print-directory --silent env
	@$(PYTHON) -m demo

.PHONY: demo-down
demo-down: ## Remove everything the demo started
ifneq ($(HUB_CONTEXT)$(CLUSTERS),)
	@$(PYTHON) -m demo down
else
	@python3 localkube down
endif

.PHONY: images
images: env ## Build both images into build/images; PUSH=registry/prefix pushes them
	$(PYTHON) -m demo images $(if $(PUSH),--push $(PUSH))

.PHONY: bench
bench: env ## One figure: make bench NAME=apply_to_serving
	@test -n "$(NAME)" || { echo "which one? $(patsubst bench/%.py,NAME=%,$(wildcard bench/[a-z]*.py))"; exit 2; }
	$(PYTHON) -m bench.$(NAME)
