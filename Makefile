# Everything runs in .venv, made from whichever python3 (3.11 or newer) is on the PATH.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests at once: many start two workers, of up to 2 GiB each.
SIDE_BY_SIDE ?= -n 2 --dist worksteal

.PHONY: demo test chaos same-bits lint types wheel docs bench clean

demo: $(STAMP)  ## train on digits on two worker processes, beside scikit-learn's MLP
	$(BIN)/dadmm demo --run runs/demo

test: $(STAMP)  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE)

chaos: $(STAMP)  ## the long set: a hundred random kills, full disks, damage, fuzzing, memory, wall time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long tests/chaos tests/cluster \
		tests/engine/test_memory_peaks.py

# What to compare with: a revision, or the folder of a checkout.
BITS_OF ?= fb53341
same-bits: $(STAMP)  ## whether small cases give the same bits as in another version
	$(BIN)/python tests/same_bits.py compare $(BITS_OF)

lint: $(STAMP)  ## style, and which way imports point
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)  ## static types
	$(BIN)/mypy

wheel: $(STAMP)  ## a wheel, and the demo with it alone in an empty environment
	rm -rf dist .wheel
	$(BIN)/python -m build --quiet --wheel --outdir dist
	$(PYTHON) -m venv .wheel
	.wheel/bin/python -m pip install --quiet dist/*.whl
	cd .wheel && bin/dadmm demo --run demo
	rm -rf .wheel

docs: $(STAMP)  ## the documentation, into docs/_build; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky docs docs/_build

bench: $(STAMP)  ## fraction of the matrix-product rate reached; wants an idle machine
	$(BIN)/python benchmarks/relaxed.py

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dadmm needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[dashboard,plot]" --group test --group lint --group docs
	touch $(STAMP)

clean:  ## remove what the targets above made
	rm -rf $(VENV) .wheel dist runs docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .same_bits
