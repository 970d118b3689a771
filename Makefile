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

# Unit tests in two processes; those that start services measure times and memory, and run alone.
UNIT = tests/unit tests/test_architecture.py

test: lint
ifeq ($(PYTEST_ARGS),)
	@$(VENV)/bin/python -m pytest -n 2 --dist loadfile $(UNIT)
	@$(VENV)/bin/python -m pytest $(UNIT:%=--ignore=%)
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
