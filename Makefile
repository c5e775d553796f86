# Each target does all its own set-up: it needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow check docs format clean

demo: $(INSTALLED)  ## trains a dynamic depth-wise network on real handwritten digits
	$(BIN)/python main.py --config=configs/digits.py --workdir=runs/digits
	$(BIN)/python -m dwconv_jax.report --workdir=runs/digits

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(INSTALLED)  ## the wide sweeps that `make test` leaves out
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow

check: $(INSTALLED) docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)  ## builds the documentation into build/docs; any warning fails
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --quiet docs build/docs

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
