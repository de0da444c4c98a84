# make demo     set everything up, train a nano-GPT that sorts letters, check all 729 inputs
# make test     set everything up, run the tests (reduced counts, minutes; the same examples each time)
# make test SEED=3      the same with the examples that hypothesis draws with this seed
# make test-all the same with full counts (about an hour) and a seed of its own, which it prints; and write
#               docs/reliability.md. What failed is drawn again by  make test-all SEED=…
# make lint     ruff and mypy --strict
# make bench    the speed table of this machine, into benchmarks/results/
# make web      build the viewer's page into the package; only this needs Node.js
#
# Where pip's own torch would bring gigabytes of CUDA:  make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt
JOBS ?= 2
SEED ?=
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal $(if $(SEED),--hypothesis-seed=$(SEED))

.PHONY: demo test test-all lint bench web clean

demo: $(VENV)/.ready
	$(VENV)/bin/glassformer demo

test: $(VENV)/.ready-dev
	$(PYTEST) -m "not slow"

test-all: SEED := $(or $(SEED),$(shell date +%s))
test-all: $(VENV)/.ready-dev
	mkdir -p build
	GLASSFORMER_FULL=1 $(PYTEST) --timeout=3600 --junitxml=build/test-all.xml
	$(VENV)/bin/python tests/report.py build/test-all.xml docs/reliability.md
	$(VENV)/bin/python tests/explained.py docs/explained.md

lint: $(VENV)/.ready-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.ready-dev
	$(VENV)/bin/python benchmarks/training.py
	$(VENV)/bin/python benchmarks/attention.py
	$(VENV)/bin/python benchmarks/twins.py
	$(VENV)/bin/python benchmarks/tracing.py
	$(VENV)/bin/python benchmarks/viewer.py
	$(VENV)/bin/python benchmarks/vit.py

web:
	cd web && npm ci --ignore-scripts --no-audit --no-fund && npm run check && npm test && npm run build

$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.torch: $(VENV)/.python constraints.txt
	@echo "Installing torch and what it needs; this takes a few minutes once."
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	touch $@

$(VENV)/.ready: $(VENV)/.torch pyproject.toml
	$(PIP) --editable '.[plot]'
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
