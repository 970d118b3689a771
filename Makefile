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

# Most tests wait more than they work: two processes. Those of whole stages use both cores, and run alone.
# Files in their order: a file of one long test would be the last otherwise, and keep one process waiting.
UNIT = tests/unit tests/test_architecture.py
FAULTS = tests/contract tests/faults
TWO = -n 2 --dist loadfile

test: lint
ifeq ($(PYTEST_ARGS),)
	@$(VENV)/bin/python -m pytest $(TWO) $(UNIT)
	@$(VENV)/bin/python -m pytest $(TWO) --no-loadscope-reorder $(FAULTS)
	@$(VENV)/bin/python -m pytest tests/integration
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
