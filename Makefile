# Two commands on a fresh machine: `make run` and `make test`. `make help` lists the others.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
SOURCES := parsers ingest workflow webhooks console tests benchmarks docs

# Else each of some hundred processes would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run demo test test-fast check docs shape chaos soak bench pictures debian clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

run: $(VENV)/.run ## everything on this machine: listeners, workers, clock, console; Ctrl-C stops it
	@exec $(BIN)/intake up

demo: $(VENV)/.run ## send one of each through every channel of a running (or its own) system
	@$(BIN)/intake demo

test: $(VENV)/.test debian ## the whole suite
	$(BIN)/pytest -n 3 --dist worksteal $(ARGS)  # one more than two cores: tests wait for servers

test-fast: $(VENV)/.test ## without pages, browser, chaos, stories and PostgreSQL: while you work
	$(BIN)/pytest --fast -n 3 --dist worksteal $(ARGS)

check: $(VENV)/.test ## ruff and mypy
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

docs: $(VENV)/.test ## write the pages and tables of docs/ and README that come from the code
	@$(BIN)/python -m docs.generate

shape: $(VENV)/.test ## size and complexity of each package, beside the targets
	@$(BIN)/python tests/repository/shape.py

chaos: $(VENV)/.test debian ## kill real processes for MINUTES=n on DATABASE=sqlite|postgresql, then count what was lost
	$(BIN)/python -m tests.acceptance.chaos --minutes $(or $(MINUTES),10) --database $(or $(DATABASE),sqlite)

soak: $(VENV)/.test debian ## a steady load for MINUTES=n; memory of every process must stay flat
	$(BIN)/python -m tests.acceptance.chaos --soak --minutes $(or $(MINUTES),30) --database $(or $(DATABASE),sqlite)

bench: $(VENV)/.bench ## the benchmarks, one after the other, then one table of all figures
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" || failed="$$failed $$file"; done; \
	$(BIN)/python -m benchmarks.support.results; \
	if [ -n "$$failed" ]; then echo "below their bounds:$$failed"; exit 1; fi

pictures: $(VENV)/.test debian ## the pictures of the documents, into docs/images/
	INTAKE_PICTURES=1 $(BIN)/pytest tests/acceptance/browser/test_pictures.py -n 0

$(VENV)/.bench: $(VENV)/.test
	@$(PIP) install --editable '.[bench]' || echo "without the parser in Rust: there is no wheel of it for this machine"
	@touch $@

debian: # what the tests need from Debian, where it may be installed
	@tests/install-debian

clean: ## the virtual environment and caches; never your data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "On Debian: apt-get install python3-venv"; exit 1; }

# The stamps make a second `make` start at once, and install again when pyproject.toml has changed.
$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) …"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV), with what the tests need …"
	@$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/.run
