# pescitrain: everything a newcomer and a contributor runs. `make help` lists it.

PYTHON ?= python3
NP ?= 2
ARGS ?=
TEST_NP ?= 2 3
TEST_JOBS ?= 2
PYTEST_ARGS ?=

BIN := .venv/bin
MPIEXEC := $(BIN)/mpiexec
SOURCES := $(wildcard pescitrain tests scripts examples)

# One thread per rank: two ranks with a thread per core each slow one another down. A value from outside wins.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

# Open MPI counts cores before it starts the ranks (versions 4 and 5), and it refuses root unless told twice.
export OMPI_MCA_rmaps_base_oversubscribe ?= 1
export PRTE_MCA_rmaps_default_mapping_policy ?= :oversubscribe
ifeq ($(shell id -u),0)
export OMPI_ALLOW_RUN_AS_ROOT = 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = 1
export PRTE_ALLOW_RUN_AS_ROOT = 1
export PRTE_ALLOW_RUN_AS_ROOT_CONFIRM = 1
endif

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup run test test-serial test-parallel check lint types format clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Variables: ARGS="-tao_max_it 50" NP=4 (run), TEST_NP="2" TEST_JOBS=1 PYTEST_ARGS="-k asm" (tests), PYTHON=python3.12 (setup).'

setup: ## make .venv with PETSc, PyTorch and pescitrain; does nothing when it is there
	@$(PYTHON) scripts/setup_env.py

run: setup ## train the default problem on NP=2 ranks; ARGS adds options
	$(MPIEXEC) -n $(NP) $(BIN)/python -m pescitrain -tao_type blmvm -pc_type asm $(ARGS)

test: test-serial test-parallel ## all tests

test-serial: setup ## all tests on one rank, without mpiexec, in TEST_JOBS processes, and the examples in docstrings
	$(BIN)/python -m pytest -q -n $(TEST_JOBS) --dist loadscope $(PYTEST_ARGS)

test-parallel: setup ## the collective tests again, on 2 and 3 ranks (TEST_NP)
	@set -e; for n in $(TEST_NP); do \
	  echo "$(MPIEXEC) -n $$n $(BIN)/python -m pytest -q -m parallel tests $(PYTEST_ARGS)"; \
	  $(MPIEXEC) -n $$n $(BIN)/python -m pytest -q -m parallel -p no:cacheprovider tests $(PYTEST_ARGS); \
	done

check: lint types ## lint and types

lint: setup ## the linter and the formatter's check
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: setup ## the type checker
	$(BIN)/basedpyright

format: setup ## format and sort the imports
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean: ## remove what tests and builds leave
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis configure.log make.log
	find . -name .venv -prune -o -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## and the environment; pip's cache keeps the wheels
	rm -rf .venv
