# make demo     sets everything up and runs the whole pipeline on a cohort that it makes itself
# make test     sets up and tests (PYTEST_ARGS="-k transfer" for a part)
# make lint     ruff and mypy
# CAMNET_TEST_DATA=/path/to/slides make demo      the same on real slides
VENV ?= .venv
WORKSPACE ?= camnet-workspace
PYTEST_ARGS ?=

.PHONY: demo test lint setup clean

demo:
	@containers/setup.sh $(VENV)
	@$(VENV)/bin/camnet demo --workspace $(WORKSPACE)

# One process for each core, and one more where servers and ranks are waited for. Files in their order, quick ones at
# the end: a file of one long test would be the last otherwise, and keep one process waiting.
UNIT = -n 2 tests/unit tests/test_architecture.py
REAL = -n 3 tests/integration tests/contract tests/faults
IN_ORDER = --dist loadfile --no-loadscope-reorder

test: lint
ifeq ($(PYTEST_ARGS),)
	@$(VENV)/bin/python -m pytest $(IN_ORDER) $(UNIT)
	@$(VENV)/bin/python -m pytest $(IN_ORDER) $(REAL)
else
	@$(VENV)/bin/python -m pytest $(PYTEST_ARGS)
endif

lint: setup
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

setup:
	@containers/setup.sh --with-tests $(VENV)

clean:
	rm -rf $(VENV) $(WORKSPACE) .pytest_cache .mypy_cache .ruff_cache .hypothesis
