# Everything runs in .venv, which is set up on first use with the versions of constraints.txt.

ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

# The first Python that runs and is supported; `make PYTHON=/path/to/python3.12 ...` picks another.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)

.DEFAULT_GOAL := help
.NOTPARALLEL: # two installations at once would get into each other's way
.PHONY: help install format lint type check train test test-slow results bench clean

help: ## show this list
	@echo "usage: make TARGET [ARGS=\"...\"] [PYTHON=python3.12]"
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target help; do printf '%-12s %s\n' "$$target" "$$help"; done

train: $(VENV)/run.stamp ## train SAC on HalfCheetah; ARGS="env=Hopper total_frames=200_000" for another run
	@exec $(BIN)/python scripts/train.py $(ARGS)

test: $(VENV)/dev.stamp ## run the tests but the slow ones; ARGS="-k replay" picks some
	@exec $(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal $(ARGS)

test-slow: $(VENV)/dev.stamp ## run the slow tests only
	@exec $(BIN)/python -m pytest -m slow -o faulthandler_timeout=7200 $(ARGS)

results: $(VENV)/run.stamp ## train what docs/results.md shows, or go on with it, for hours; ARGS="--only ppo-CartPole-100k"
	@exec $(BIN)/python scripts/results.py $(ARGS)

bench: $(VENV)/run.stamp ## measure us beside other libraries, nothing else running; ARGS="--only ppo1,ppo8"
	@exec $(BIN)/python scripts/benchmark.py $(ARGS)

check: $(VENV)/dev.stamp lint type ## lint, formatting and types, changing nothing
	@$(BIN)/python -m ruff format --check .

format: $(VENV)/dev.stamp ## format the code and fix what lint can fix
	@$(BIN)/python -m ruff check --fix-only .
	@$(BIN)/python -m ruff format .

lint: $(VENV)/dev.stamp ## check the code by ruff
	@$(BIN)/python -m ruff check .

type: $(VENV)/dev.stamp ## check the types by pyright
	@$(BIN)/python -m pyright --pythonpath $(BIN)/python

install: $(VENV)/dev.stamp ## set up .venv with the development tools

clean: ## remove .venv, .bench and caches; runs stay
	rm -rf $(VENV) .bench .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last: an installation that broke or was interrupted is taken up again.
# After `make train` every environment in configs/env/ is there, and films can be made, where there are
# wheels: Box2D has some for x86_64 only, PyAV and ale-py for arm64 as well. Elsewhere they would have to be
# compiled, which HalfCheetah should not wait for.
MACHINE := $(shell uname -m)
WITH_WHEELS_x86_64 := [atari,box2d,video]
WITH_WHEELS_aarch64 := [atari,video]
WITH_WHEELS_arm64 := [atari,video]
$(VENV)/run.stamp: EXTRA := $(WITH_WHEELS_$(MACHINE))
$(VENV)/dev.stamp: EXTRA := [dev]
$(VENV)/run.stamp $(VENV)/dev.stamp: pyproject.toml constraints.txt $(BIN)/python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(create_venv); }
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.$(EXTRA)'
	@touch $(VENV)/run.stamp $@

$(BIN)/python:
	@$(create_venv)

define create_venv
if ! "$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null; then \
	echo "error: this needs Python 3.11, 3.12 or 3.13$(PYTHON:%=, and % is none of them or does not run)." >&2; \
	echo "Install one (Debian, Ubuntu: apt install python3 python3-venv)" >&2; \
	echo "or name one: make PYTHON=/path/to/python3.12 ..." >&2; \
	exit 1; \
fi; \
if ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
	echo "error: $(PYTHON) lacks the module venv or ensurepip." >&2; \
	echo "Install it (Debian, Ubuntu: apt install python3-venv)." >&2; \
	exit 1; \
fi; \
"$(PYTHON)" -m venv --clear $(VENV)
endef
