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

# A GPU adds its file; COMPOSE_FILE and the like choose other files and images, as for `docker compose` itself.
ifneq ($(shell nvidia-smi --list-gpus 2>/dev/null),)
up backup restore renew upgrade e2e: export COMPOSE_FILE := $(or $(COMPOSE_FILE),docker-compose.yml):infra/compose.gpu.yml
endif
up restore upgrade e2e: export ORRERY_BUILD ?= $(shell git rev-parse HEAD 2>/dev/null)

.PHONY: help setup demo story loop up down ps logs backup restore renew upgrade status check test e2e bench lock clean

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

story: setup  ## what the README promises of the demo, asked of the platform that `demo` left running
	$(BIN)/python -m pytest -m e2e tests/e2e

# an installation of its own, with little data and less patience; the platform of `demo` must be down, its ports are taken
loop: setup  ## a changed world: alert, retraining, gate and a better champion, without hands (LOOP=options)
	@if [ -d var/loop ]; then ORRERY_HOME=var/loop $(BIN)/orrery down && rm -rf var/loop; fi
	ORRERY_HOME=var/loop ORRERY_TRAINING__TRIALS=1 ORRERY_PREFECT__SCHEDULES=false \
	ORRERY_GATEWAY__MODEL_SERVER=in_process ORRERY_WATCH__REPORTS=0 \
	ORRERY_RETRAIN__COOLDOWN_MINUTES=1 ORRERY_RETRAIN__LABELS=3000 $(BIN)/orrery loop $(LOOP)

up:  ## start the platform in containers, and wait for its first models
	@infra/docker/preflight
	@docker compose up --detach --build --remove-orphans || { docker compose logs --no-log-prefix init >&2; exit 1; }
	@docker compose logs --follow --no-log-prefix bootstrap
	@docker compose exec -T worker orrery status
	@test "$$(docker compose ps --all --format '{{.ExitCode}}' bootstrap)" = 0 \
	  || { echo 'orrery: there is no champion for each use case yet; see `docker compose logs bootstrap`' >&2; exit 1; }

down:  ## stop what runs, containers and the demo's processes; data stay
	@if docker info >/dev/null 2>&1; then docker compose down --remove-orphans; fi
	@if [ -x $(BIN)/orrery ]; then $(BIN)/orrery down; fi
	@if [ -x $(BIN)/orrery ] && [ -d var/loop ]; then ORRERY_HOME=var/loop $(BIN)/orrery down; fi

ps:  ## the containers
	@docker compose ps --all

logs:  ## what the containers say (S=gateway: one of them)
	@docker compose logs --follow --tail 100 $(S)

backup:  ## everything that cannot be made again, into backups/<moment>
	@infra/docker/backup

restore:  ## a backup (FROM=backups/<moment>) into an empty platform
	@infra/docker/preflight
	@infra/docker/restore $(FROM)

renew:  ## new secrets for the containers, when theirs are lost or known
	docker compose run --rm init renew
	docker compose up --detach --wait postgres
	docker compose exec -T postgres psql --quiet --set ON_ERROR_STOP=1 --username postgres --file /run/orrery/roles.sql
	docker compose up --detach --force-recreate

upgrade:  ## bring the volumes of an older version up to this one, after a backup
	infra/docker/preflight
	docker compose build --quiet
	infra/docker/backup
	docker compose run --rm init upgrade
	$(MAKE) up

status: setup  ## services, models, freshness of the demo's platform
	$(BIN)/orrery status

check: setup  ## format, lint, types, imports, images and configuration, claims
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint infra/docker/Dockerfile
	$(BIN)/shellcheck .ci/run infra/alertmanager/start infra/docker/answers infra/docker/backup infra/docker/preflight infra/docker/restore infra/postgres/roles.sh infra/postgres/start
	$(BIN)/compose-lint check --quiet --fail-on high docker-compose.yml
	$(BIN)/python -m pytest -n 2 tests/test_claims.py tests/test_house_rules.py tests/infra

test: setup  ## every test, with coverage of orrery/
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -m "not e2e and not containers and not loop" -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=
	$(BIN)/coverage report

e2e: setup  ## the platform in containers: the loop, dashboards, faults, and from nothing to a restored backup
	$(BIN)/python -m pytest -m containers tests/e2e/test_watched_platform.py tests/e2e/test_containers.py

bench: setup  ## every benchmark; prints tables
	$(BIN)/orrery bench all

lock: setup  ## resolve the locks under requirements/ again
	$(BIN)/python -m requirements.lock

clean: down  ## remove what was built; data, models and logs under var/ stay
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
