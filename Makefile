# Each target does its own set-up and needs only Python 3.11 or newer: `make test PYTHON=python3.12`.
PYTHON := python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(VERSION))
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CORE := .venv-core-$(VERSION)
EXTRAS := .venv-extras-$(VERSION)

PYTEST := python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
CORE_TESTS := $(addprefix tests/,ops layers models convert benchmarks/gpu/test_hardware.py \
	benchmarks/gpu/test_supervise.py test_linen.py test_natten.py test_bare_import.py)

.PHONY: demo test test-core test-extras test-slow check docs names format clean

demo: $(INSTALLED)  ## trains a dynamic depth-wise network on real handwritten digits
	$(BIN)/python main.py --config=configs/digits.py --workdir=runs/digits
	$(BIN)/python -m dwconv_jax.report --workdir=runs/digits

test: $(INSTALLED)
	$(BIN)/$(PYTEST)

test-core: $(CORE)/.installed  ## the tests that need only JAX, Flax and safetensors
	$(CORE)/bin/$(PYTEST) $(CORE_TESTS)

test-extras: $(EXTRAS)/.installed  ## the tests of ONNX export and of trackers, whose packages are many
	$(EXTRAS)/bin/$(PYTEST) -m extras tests/inference/test_onnx.py \
		tests/tasks/segmentation/test_task.py tests/training/test_trackers.py \
		tests/test_documents.py

test-slow: $(INSTALLED)  ## the wide sweeps that `make test` leaves out
	$(BIN)/$(PYTEST) -m slow

check: $(INSTALLED) docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)  ## builds the documentation into build/docs; any warning fails
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --quiet docs build/docs

names: $(INSTALLED)  ## writes the names of the models for type checkers
	$(BIN)/python -m tests.model_names

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): EXTRA := dev
$(CORE)/.installed: EXTRA := test-core
$(EXTRAS)/.installed: EXTRA := test-extras
$(INSTALLED) $(CORE)/.installed $(EXTRAS)/.installed: pyproject.toml setup.py
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade pip
	$(@D)/bin/python -m pip install --quiet --editable '.[$(EXTRA)]'
	touch $@

clean:
	rm -rf .venv .venv-* build *.egg-info
