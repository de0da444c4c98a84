# make demo     set everything up, train a nano-GPT that sorts letters, check all 729 inputs
# make test     set everything up, run the tests (reduced counts, minutes; the same examples each time)
# make test SEED=3      the same with the examples that hypothesis draws with this seed
# make test-all the same with full counts (about an hour) and a seed of its own, which it prints; and write
#               docs/reliability.md. What failed is drawn again by  make test-all SEED=…
# make lint     ruff and mypy --strict
# make bench    the speed table of this machine, into benchmarks/results/; not in it are speech.py and hearing.py, which need
#               recordings and published weights, speculative.py and streaming.py, which need a published model,
#               tokenization.py, encoding.py and profile_encoding.py, which need corpora and packages,
#               and versions.py, which needs a checkout of an earlier version
# make web      build the viewer's page into the package; only this needs Node.js
# make lock     the versions and hashes of what is installed, after a change of pyproject.toml; UPGRADE=1 takes new ones
#
# Where pip's own torch would bring gigabytes of CUDA:  make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
TORCH := torch==2.13.0
VENV := .venv
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check
LOCKED := $(PIP) --require-hashes --no-deps --requirement
JOBS ?= 2
SEED ?=
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal $(if $(SEED),--hypothesis-seed=$(SEED))
SCRIPT = PYTHONPATH=tests $(VENV)/bin/python

.PHONY: demo test test-all lint bench web lock clean

demo: $(VENV)/.ready
	$(VENV)/bin/glassformer demo

test: $(VENV)/.ready-dev
	$(PYTEST) -m "not slow"

test-all: SEED := $(or $(SEED),$(shell date +%s))
test-all: $(VENV)/.ready-dev
	mkdir -p build
	GLASSFORMER_FULL=1 $(PYTEST) --timeout=3600 --junitxml=build/test-all.xml
	$(SCRIPT) tools/reliability.py build/test-all.xml docs/reliability.md
	$(SCRIPT) tools/explained.py docs/explained.md
	$(VENV)/bin/python tools/lower_bounds.py build/lower-bounds $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))

lint: $(VENV)/.ready-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.ready-dev
	$(SCRIPT) benchmarks/training.py
	$(SCRIPT) benchmarks/attention.py
	$(SCRIPT) benchmarks/twins.py
	$(SCRIPT) benchmarks/tracing.py
	$(SCRIPT) benchmarks/viewer.py
	$(SCRIPT) benchmarks/vit.py
	$(SCRIPT) benchmarks/recurrent.py
	$(SCRIPT) benchmarks/profile_training.py
	$(SCRIPT) benchmarks/loading.py
	$(SCRIPT) benchmarks/decode.py

web:
	cd web && npm ci --ignore-scripts --no-audit --no-fund && npm run check && npm test && npm run build

$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	touch $@

# What is installed has one of the hashes in locked/, which has those of all files of each release. Torch alone is not
# there: its files differ by index, and from PyPI it brings NVIDIA's libraries, whose versions it names itself.
$(VENV)/.ready: $(VENV)/.python locked/demo.txt pyproject.toml
	@echo "Installing torch and what it needs; this takes a few minutes once."
	$(LOCKED) locked/demo.txt
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready locked/dev.txt
	$(LOCKED) locked/dev.txt
	touch $@

CUDA := triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx nvidia-cuda-cccl
COMPILE = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock (the Makefile says what is locked, and how it is installed)" \
	$(addprefix --no-emit-package ,torch glassformer $(CUDA)) pyproject.toml
lock: $(VENV)/.python
	$(PIP) uv
	echo $(TORCH) > $(VENV)/torch.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev --constraint $(VENV)/torch.txt --output-file locked/dev.txt
	$(COMPILE) --extra plot --constraint $(VENV)/torch.txt --constraint locked/dev.txt --output-file locked/demo.txt

clean:
	rm -rf $(VENV) build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
