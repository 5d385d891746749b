# `make demo` and `make test` work from a fresh clone: they make .venv with PYTHON (3.11 or newer) and install into it.

PYTHON ?= python3
VENV := .venv
OUT ?= demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Neither another environment nor its path may leak into this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help demo test lint format types tests faults clean

help:  ## say what there is
	@echo "make demo    install into $(VENV), watch robots adapt: table, report and film under $(OUT)/"
	@echo "make test    install into $(VENV), then lint, types and tests"
	@echo "make lint | types | tests    one of the three"
	@echo "make faults  the whole fault harness: kills, full disks, damaged files; an hour"
	@echo "make format  let ruff rewrite the code"
	@echo "make clean   remove $(VENV) and caches; runs and results stay"
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter, OUT=DIR where the demo goes"

demo: $(VENV)/.installed
	$(VENV)/bin/quickstudy benchmark demo --out $(OUT)
	@echo "look at $(OUT)/report.html in a browser, and at the films in $(OUT)/films/; every episode is in $(OUT)/episodes.csv"

test: lint types tests

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed-dev
	$(VENV)/bin/mypy

tests: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n 2

faults: $(VENV)/.installed-dev
	QUICKSTUDY_FAULTS=whole $(VENV)/bin/python -m pytest -n 2 --dist worksteal tests/faults

format: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) *.egg-info build .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { \
	    echo "quickstudy needs Python 3.11 or newer, and there is no '$(PYTHON)': name one with PYTHON=/path/to/python" >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "quickstudy needs Python 3.11 or newer, and $(PYTHON) is" \
	        "$$($(PYTHON) -c 'import platform; print(platform.python_version())'): name another with PYTHON=python3.11" >&2; \
	    exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	    rm -rf $(VENV); \
	    echo "$(PYTHON) cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)" >&2; \
	    exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV): a few minutes the first time"
	$(VENV)/bin/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV): a few minutes the first time"
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed
