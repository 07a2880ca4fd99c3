# UAIR node. `make` alone lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UAIR := $(BIN)/uair
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

CT ?=
MASKS ?=
ARGS ?=
FAULTS ?= 200
CASES ?= 60
SEED ?= 1
INPUTS ?= 100000
MINUTES ?= 30
PROCESSES ?= 3

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help architecture picture sbom demo test mutants variants bench chaos fuzz soak lint peers clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/product.stamp ## the whole loop on a phantom, or on CT=folder (and MASKS=folder-or-zip); ARGS go to `uair demo`
	$(UAIR) demo $(if $(CT),--ct "$(CT)") $(if $(MASKS),--masks "$(MASKS)") $(ARGS)

test: $(VENV)/test.stamp peers lint ## lint and every test, peers installed where possible; PROCESSES, ARGS go to pytest
	PROCESSES=$(PROCESSES) scripts/run-tests.sh $(ARGS)

mutants: $(VENV)/test.stamp ## small faults put into copies of the product, each of which must make a test fail
	$(BIN)/python -m scripts.mutants

variants: $(VENV)/test.stamp peers ## four broken variants of the product, each of which an audit must find
	$(BIN)/python -m scripts.variants

bench: $(VENV)/test.stamp peers ## measured tables, side by side with peers
	$(BIN)/pytest -m bench -s tests/bench $(ARGS)

chaos: $(VENV)/test.stamp peers ## many faults on a whole department, then the audit; FAULTS, CASES, SEED
	$(BIN)/pytest -q -s --timeout 0 tests/chaos/test_chaos.py --faults $(FAULTS) --cases $(CASES) --seed $(SEED) $(ARGS)

fuzz: $(VENV)/test.stamp ## hostile inputs by mutation of valid ones; INPUTS, SEED
	$(BIN)/pytest -q --timeout 0 -s tests/fuzz --inputs $(INPUTS) --fuzz-seed $(SEED) $(ARGS)

soak: $(VENV)/test.stamp peers ## push for MINUTES, print memory, handles, threads and backlog over time
	$(BIN)/pytest -q --timeout 0 -s -m bench tests/soak --minutes $(MINUTES) $(ARGS)

lint: $(VENV)/test.stamp ## ruff, mypy, import rules, prose, folders and names
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.prose
	$(BIN)/pytest -q tests/unit/test_layers.py tests/unit/test_names.py

peers: ## install what the integration tests talk to (Debian, Ubuntu)
	@scripts/install-peers.sh

architecture: $(VENV)/test.stamp ## draw docs/architecture.md from the code
	$(BIN)/python scripts/architecture.py

picture: $(VENV)/test.stamp ## photograph the console's page of a segmentation for docs/images
	$(BIN)/python -m scripts.console_picture

sbom: $(VENV)/product.stamp ## write dist/sbom.cdx.json: what the installed product consists of (CycloneDX)
	@mkdir -p dist
	$(BIN)/python scripts/sbom.py > dist/sbom.cdx.json

clean: ## remove caches and outputs
	rm -rf build dist demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove the virtual environment too
	rm -rf $(VENV) *.egg-info

# A stamp keeps a second call from installing again until what decides the installation has changed.
$(VENV)/product.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing UAIR node and what it depends on into $(VENV) (several minutes the first time) ..."
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing UAIR node, test and lint tools into $(VENV) (several minutes the first time) ..."
	@$(PIP_INSTALL) -e ".[test,evaluate]"
	@touch $@ $(VENV)/product.stamp

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "There is no $(PYTHON). Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$$($(PYTHON) --version) is too old, 3.11 or newer is needed. Name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV)
