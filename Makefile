# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests start many processes: without byte code each would compile all of podlt anew, for a second.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo docs test test-all chaos lint clean

setup: $(READY)

# PyTorch first, and alone: it is by far the largest. The extra dev holds all others (train, network, ...).
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(READY)

demo: setup
	$(BIN)/podlt demo

# Three processes on two cores: some of the time is waiting for sockets, heartbeats and other processes.
test: setup lint
	$(BIN)/python -m pytest -q -n 3 --dist loadfile

# With as many drawn examples of each rule as its test asks for; `make test` draws at most 40 where a test says nothing.
test-all: setup lint
	PODLT_ALL_TESTS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m ''

# Warnings are errors; the doctests of pages and docstrings are executed by the tests.
docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

chaos: setup
	$(BIN)/python -m pytest -q -m chaos

lint: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/lint-imports
	$(BIN)/mypy

clean:
	rm -rf $(VENV)
