# make demo   render a small real set and look at it
# make test   lint, types and the whole suite: what CI runs; ARGS="-k layers -x" goes to pytest
# make clean  remove what the others made
#
# Both set up .venv on their first run. Another interpreter: make PYTHON=python3.13 test
# With the newest versions of all packages: make CONSTRAINTS= test

PYTHON ?= python3
ARGS ?=
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %) --editable
SETUP := pyproject.toml constraints.txt vpngen/__init__.py

# Rendering brings its own threads; those of other libraries would only get in its way.
export OMP_NUM_THREADS := 1
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test clean
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/vpngen render demo/vpn-16x2.zarr --categories 16 --instances 2 --codec zstd
	$(BIN)/vpngen preview demo/vpn-16x2.zarr -o demo/preview.png
	$(BIN)/vpngen mosaic -o demo/mosaic.png
	@echo
	@echo "The set, 32 videos of 240 x 240 x 240 as Zarr:  $(CURDIR)/demo/vpn-16x2.zarr"
	@echo "What is in it, one picture:                     $(CURDIR)/demo/preview.png"
	@echo "All categories, one picture:                    $(CURDIR)/demo/mosaic.png"

test: .venv/installed-for-tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

clean:
	rm -rf .venv demo dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"vpngen needs Python 3.11 or newer, and $(PYTHON) is %d.%d; try: make PYTHON=python3.13 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python $(SETUP)
	$(INSTALL) .
	@touch $@

.venv/installed-for-tests: .venv/bin/python $(SETUP)
	$(INSTALL) '.[test,lint]'
	@touch .venv/installed $@
