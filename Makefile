# make demo     the worked example: fits it, prints the summary, saves the pictures in demo_output/
# make test     the tests
# make lint     ruff (rules and format) and pyright
# make bench    the benchmarks, beside every peer that is installed
# make clean    removes what these commands made, the environment included
# Each works alone from a bare clone. The interpreter can be chosen: make test PYTHON=python3.12
# Arguments for pytest: make test ARGS="-k formula"

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CACHE  := $(CURDIR)/.cache
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS   ?=

# Compiled programs are kept between runs: the second run of the tests is much the quicker one.
export JAX_COMPILATION_CACHE_DIR ?= $(CACHE)/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
export MPLBACKEND ?= Agg

.PHONY: help demo test lint format bench clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# The stamps say which part of the environment is there; a changed pyproject.toml renews them.
$(VENV)/.stamp-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "lmmjax needs Python 3.11 or newer; $(PYTHON) is not. Try: make PYTHON=python3.12"; exit 1; }
	@echo "==> creating the environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-run: pyproject.toml | $(VENV)/.stamp-python
	@echo "==> installing lmmjax with its pictures (the first time, this downloads JAX)"
	@$(PIP) install -e '.[plot]'
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-run
	@echo "==> installing what the tests and checks need"
	@$(PIP) install -e '.[plot,test,dev]'
	@touch $@

$(VENV)/.stamp-bench: $(VENV)/.stamp-run
	@echo "==> installing the peers that the benchmarks compare with"
	@$(PIP) install -e '.[bench]'
	@touch $@

demo: $(VENV)/.stamp-run
	@echo "==> lmmjax demo"
	@$(BIN)/lmmjax demo --plots demo_output

test: $(VENV)/.stamp-test
	@echo "==> pytest"
	@$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile $(ARGS)

lint: $(VENV)/.stamp-test
	@echo "==> ruff check"
	@$(BIN)/ruff check .
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --check .
	@echo "==> pyright"
	@$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.stamp-test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.stamp-bench
	@echo "==> benchmarks/fit.py"
	@$(BIN)/python benchmarks/fit.py $(ARGS)

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache build dist demo_output benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
