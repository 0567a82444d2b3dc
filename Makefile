# Set-up, demo and tests. Needs Python 3.10 to 3.13 and make, nothing else.
# The interpreter chooses the TensorFlow line: make test PYTHON=python3.12

PYTHON ?= python3
JOBS ?= 2
ARGS ?=

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
LINE_3.10 := 2.15
LINE_3.11 := 2.15
LINE_3.12 := 2.21
LINE_3.13 := 2.21
LINE := $(LINE_$(VERSION))

VENV := .venv-$(VERSION)
LOCK := requirements/tf$(LINE).lock
STAMP := $(VENV)/installed
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint $(LOCK)

ifeq ($(VERSION),)
  UNSUPPORTED = PYTHON=$(PYTHON) does not run. Give one that does: make test PYTHON=python3.11
else ifeq ($(LINE),)
  UNSUPPORTED = ensemble-heads needs Python 3.10, 3.11, 3.12 or 3.13, but \
    PYTHON=$(PYTHON) is Python $(VERSION). Give another: make test PYTHON=python3.11
endif

.PHONY: help setup demo methods test lint format clean

help:
	@echo "make demo    train, compare, export: the main job, recipes/digits_resnet.py"
	@echo "make methods every loss on the same data, three seeds: 10 to 20 minutes"
	@echo "make test    all checks on one TensorFlow line: ruff, pytest, doctests"
	@echo "make lint    ruff only, nothing is changed"
	@echo "make format  let ruff rewrite the sources"
	@echo "make setup   only make the virtual environment, .venv-<version>"
	@echo "make clean   remove environments, caches and build files"
	@echo
	@echo "PYTHON=python3.11   the interpreter: 3.10 and 3.11 take TensorFlow 2.15,"
	@echo "                    3.12 and 3.13 take TensorFlow 2.21"
	@echo "ARGS='…'            more arguments for the recipe or for pytest"
	@echo "JOBS=2              processes that run the tests"

setup: $(STAMP)

demo: $(STAMP)
	$(RUN) recipes/digits_resnet.py $(ARGS)

methods: $(STAMP)
	$(RUN) recipes/digits_resnet.py --preset=methods $(ARGS)

# A file's tests stay in one process, where they share the models they have built.
test: lint
	$(RUN) -m pytest --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(STAMP)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf .venv-* build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

ifdef UNSUPPORTED
.PHONY: $(STAMP)
$(STAMP):
	$(error $(UNSUPPORTED))
else
# The stamp comes last, so an installation that broke off starts anew. setuptools and
# wheel come first: the package is then built with them, and no others are fetched.
$(STAMP): setup.py $(LOCK)
	@echo "Installing TensorFlow $(LINE) for Python $(VERSION) into $(VENV): some minutes."
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) setuptools wheel
	$(PIP) --no-build-isolation --editable '.[recipes,dev]'
	@touch $(STAMP)
endif
