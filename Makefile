# The only entry point. `make help` lists the targets; `make demo` and `make test` are all a newcomer needs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON := .venv/bin/python
VENV := .venv/.installed
NPM := sdk/typescript/node_modules/.package-lock.json
PROTO_IMPORTS := build/protos/google/api/annotations.proto
SYSTEM_PACKAGES := ca-certificates git nodejs npm python3 python3-venv
UV_COMPILE = .venv/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --only-binary :all: \
	--no-emit-index-url --no-header
# Folders with Python of ours; those that are not written yet are left out.
CODE := $(wildcard libs services gateway deploy demo e2e bench tools) sdk/python
# Two workers on two cores; a file's tests stay together so that they share their servers.
PYTEST := $(PYTHON) -m pytest --durations=10
TEST_WORKERS ?= 2
ARGS ?=

export ONCE FULL KEEP

##@ Use

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV) ## five nodes on this machine do the main job (ONCE=1 exit when done, FULL=1 all requests, KEEP=1 keep data)
	@$(PYTHON) -m demo $(ARGS)

.PHONY: system
system: ## Debian packages that the other targets need (as root, or with sudo)
	@if [ "$$(id -u)" = 0 ]; then run=; \
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then run=sudo; \
	else echo "run as root: apt-get update && apt-get install -y $(SYSTEM_PACKAGES)" >&2; exit 1; fi; \
	missing=; \
	for package in $(SYSTEM_PACKAGES); do \
		case $$package in \
			nodejs|npm) if command -v $${package%js} >/dev/null; then continue; fi ;; \
			git) if command -v git >/dev/null; then continue; fi ;; \
			*) if dpkg -s $$package >/dev/null 2>&1; then continue; fi ;; \
		esac; \
		missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then echo "all system packages are there"; exit 0; fi; \
	$$run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$run apt-get install -y -qq $$missing

.PHONY: faults-machine
faults-machine: ## Debian's libfaketime for make e2e-faults: without it the wrong clock is left out (as root, or with sudo)
	@$(MAKE) system SYSTEM_PACKAGES=faketime

.PHONY: compose-machine
compose-machine: ## Debian packages for make e2e-compose: a Docker engine, compose, debootstrap (as root, or with sudo)
	@$(MAKE) system SYSTEM_PACKAGES="docker.io docker-compose debootstrap"

##@ Check

.PHONY: test
test: $(VENV) ## all tests but e2e, with real servers; ARGS="libs -k outbox" runs some
	@$(PYTEST) -n $(TEST_WORKERS) --dist loadfile $(ARGS)

.PHONY: e2e
e2e: $(VENV) $(NPM) ## a whole federation from outside, and the SDK examples
	@$(PYTEST) e2e $(ARGS)

.PHONY: e2e-faults
e2e-faults: $(VENV) ## nodes whose links and processes fail, reconciled (FAULTS_MINUTES of random rounds, FAULTS_SEED)
	@$(PYTHON) -m pytest e2e/faults -v -s $(ARGS)

.PHONY: e2e-compose
e2e-compose: $(VENV) ## city, district and partner in containers (after make compose-machine)
	@tools/with_docker.sh $(PYTHON) -m pytest e2e/compose $(ARGS)

.PHONY: check
check: ## everything that CI asks, fastest first
	@for step in gen-check lint types imports proto-lint proto-breaking sdk-check test; do \
		echo "== $$step"; \
		$(MAKE) $$step || { echo "make check: $$step failed" >&2; exit 1; }; \
	done

.PHONY: lint
lint: $(VENV) ## ruff: rules and format
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check

.PHONY: types
types: $(VENV) ## mypy, strict
	@.venv/bin/mypy $(CODE)

.PHONY: imports
imports: $(VENV) ## who may import whom
	@.venv/bin/lint-imports --no-logo --cache-dir build/import-linter
	@$(PYTHON) -m tools.check_imports

.PHONY: proto-lint
proto-lint: $(PROTO_IMPORTS) ## buf: names and comments of the protos
	@.venv/bin/buf lint

.PHONY: proto-breaking
proto-breaking: $(PROTO_IMPORTS) ## buf: no change of the protos that breaks who reads them (PROTO_BASE=commit)
	@tools/proto_breaking.sh

.PHONY: gen-check
gen-check: $(VENV) $(NPM) ## generated code is what proto/ says
	@$(PYTHON) -m tools.gen --check

.PHONY: sdk-check
sdk-check: $(NPM) ## the TypeScript SDK and its example compile, its tests pass, lock files name no host
	@cd sdk/typescript && npm run --silent check && npm test --silent
	@if grep -n 'https\?://' sdk/typescript/package-lock.json requirements.lock requirements-dev.lock; then \
		echo "a lock file names a host" >&2; exit 1; fi

.PHONY: sdk-examples
sdk-examples: $(VENV) $(NPM) ## both SDK examples against the node at QUINTET_URL, as QUINTET_LOGIN with QUINTET_PASSWORD
	@$(PYTHON) sdk/python/examples/file_request.py
	@cd sdk/typescript && npm run --silent example

.PHONY: bench
bench: $(VENV) ## benchmarks; results go to build/bench
	@$(PYTHON) -m bench $(ARGS)

##@ Change

.PHONY: gen
gen: $(VENV) $(NPM) ## stubs, descriptors and OpenAPI from proto/
	@$(PYTHON) -m tools.gen

.PHONY: lock
lock: $(VENV) ## newest versions into the lock files (UP= to keep the present ones where possible)
	@$(UV_COMPILE) $(UP) requirements.in -o requirements.lock
	@$(UV_COMPILE) $(UP) -c requirements.lock requirements-dev.in -o requirements-dev.lock
	@cd sdk/typescript && npm install --package-lock-only

UP ?= --upgrade

.PHONY: format
format: $(VENV) ## ruff puts code into shape
	@.venv/bin/ruff check --fix-only --quiet && .venv/bin/ruff format --quiet

.PHONY: pre-commit
pre-commit: $(VENV) ## installs the git hook with the fast checks
	@.venv/bin/pre-commit install

.PHONY: clean
clean: ## removes everything that git does not keep, .venv and node_modules included
	@rm -rf .venv build sdk/typescript/node_modules sdk/typescript/dist .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis ./*.egg-info sdk/python/src/*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------------------------ what they need

$(VENV): requirements-dev.lock tools/bootstrap.sh
	@tools/bootstrap.sh

$(NPM): sdk/typescript/package-lock.json
	@cd sdk/typescript && npm ci --silent
	@touch $@

$(PROTO_IMPORTS): $(VENV) tools/protoc.py
	@$(PYTHON) -m tools.protoc
	@touch $@
