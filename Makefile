# The only vocabulary: people, hooks, CI and the README call these verbs.
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= cpu
# A folder of local wheels serves pip and uv alike; without one, uv knows where PyTorch keeps its CPU builds.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
ifeq ($(TORCH)$(UV_FIND_LINKS),cpu)
export UV_TORCH_BACKEND ?= cpu
endif

# OpenMP threads that spin while they wait make training many times slower on busy cores.
export OMP_WAIT_POLICY ?= PASSIVE
# nothing that is started here reports to anybody
export DO_NOT_TRACK ?= true
export ORT_DISABLE_TELEMETRY ?= 1

.PHONY: help setup demo up down status check test e2e bench lock clean

help:  ## show these verbs
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/.ready: requirements/dev-$(TORCH).txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements/dev-$(TORCH).txt)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements/dev-$(TORCH).txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

setup: $(BIN)/.ready  ## install the locked dependencies into .venv (TORCH=cpu or gpu)

demo: setup  ## the whole loop: up, data, train, gate, promote, replay, lineage
	$(BIN)/orrery demo

up: setup  ## start the platform on this machine
	$(BIN)/orrery up

down: setup  ## stop what `up` started
	$(BIN)/orrery down

status: setup  ## services, models, freshness
	$(BIN)/orrery status

check: setup  ## format, lint, types, imports, claims
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_claims.py tests/test_house_rules.py

test: setup  ## every test, with coverage of orrery/
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -m "not e2e" -n 2 --dist loadfile --cov --cov-report=
	$(BIN)/coverage report

e2e: setup  ## what the README promises, asked of the platform that `demo` left running
	$(BIN)/python -m pytest -m e2e tests/e2e

bench: setup  ## every benchmark; prints tables
	$(BIN)/orrery bench all

lock: setup  ## resolve the locks under requirements/ again
	$(BIN)/python -m requirements.lock

clean: down  ## remove what was built; data, models and logs under var/ stay
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
