# Needs Python 3, make and a package index; everything else goes into a virtual environment below this directory.
#
#   make run [PORT=8000] [HOST=0.0.0.0]    serve the example on a free (or the given) port
#   make test [PYTHON=python3.12]          run the whole test suite
#   make fuzz [FUZZ_SECONDS=600]           feed generated input to the parsers, so long for each
#   make autobahn [QUICK=1]                the Autobahn test suite for WebSockets; needs CPython 2.7
#   make coverage, lint, format, bench, clean

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 0
# Options for pytest, such as TESTS=tests/wire or TESTS="-k keep_alive".
TESTS ?=
# More than there are cores: most tests wait most of their time.
JOBS ?= 6
FUZZ_SECONDS ?= 600

VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venvs/$(notdir $(PYTHON)))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test coverage lint format fuzz bench clean autobahn autobahn-python

help:
	@sed -n 's/^#   //p' Makefile

run: $(VENV)/.examples
	@cd examples && exec ../$(BIN)/gunicorn --config gunicorn.conf.py --bind $(HOST):$(PORT) fastapi_app:app

test: $(VENV)/.test
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q $(TESTS)

# The suite is a program for CPython 2.7, which gets a place of its own for what it needs.
# A command of that name may be there and not run, as those of pyenv.
AUTOBAHN_PYTHON ?= $(shell for python in python2.7 $(HOME)/.pyenv/versions/2.7*/bin/python2.7; do \
	$$python -m pip --version >/dev/null 2>&1 && echo $$python && break; done)
autobahn: export PYTHONUSERBASE := $(CURDIR)/.venvs/autobahn
autobahn: export AUTOBAHN_PYTHON := $(AUTOBAHN_PYTHON)
autobahn: $(VENV)/.test .venvs/autobahn/.installed
	@$(BIN)/python -m pytest -q --override-ini=cache_dir=.venvs/autobahn/cache tests/integration/autobahn.py $(TESTS)

autobahn-python:
	@echo $(AUTOBAHN_PYTHON)

.venvs/autobahn/.installed:
	@test -n "$(AUTOBAHN_PYTHON)" || { echo "CPython 2.7 is not here; AUTOBAHN_PYTHON=... names it." >&2; exit 1; }
	@echo "Installing the Autobahn test suite into .venvs/autobahn ..."
	@mkdir -p .venvs/autobahn
	@$(AUTOBAHN_PYTHON) -m pip --disable-pip-version-check install -qq --user --no-warn-script-location \
		autobahntestsuite==25.10.1 2>$(@D)/log || { cat $(@D)/log >&2; exit 1; }
	@touch $@

coverage: $(VENV)/.test
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q --cov --cov-report=term $(TESTS)

lint: $(VENV)/.lint
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy gunicorn_asgi tests benchmarks examples docs

format: $(VENV)/.lint
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format
	@$(BIN)/python docs/settings_page.py

# Needs CPython on Linux: atheris has wheels for nothing else. A finding is left in a file named crash-...
fuzz: $(VENV)/.fuzz
	@for codec in httptools h11; do \
		$(BIN)/python -m tests.fuzz.http1 $$codec -max_total_time=$(FUZZ_SECONDS) || exit; \
	done

bench: $(VENV)/.bench-parser
	@$(BIN)/python -m benchmarks

clean:
	@rm -rf .venv .venvs .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*

# One stamp file for each dependency group that the environment holds.
$(VENV)/.examples $(VENV)/.test $(VENV)/.lint $(VENV)/.fuzz $(VENV)/.bench: $(VENV)/.%: $(VENV)/.pip pyproject.toml
	@echo "Installing the $* environment into $(VENV) ..."
	@$(PIP) install -qq --editable . --group $*
	@touch $@

# The C parser of Gunicorn's own worker has to be compiled, which not every machine can.
$(VENV)/.bench-parser: $(VENV)/.bench
	@$(PIP) install -qq gunicorn-h1c 2>/dev/null \
		|| echo "gunicorn-h1c cannot be installed here: Gunicorn's own worker is measured with its Python parser."
	@touch $@

# Dependency groups need pip 25.1; a fresh virtual environment may hold an older one.
$(VENV)/.pip:
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -qq --upgrade 'pip>=25.1'
	@touch $@
