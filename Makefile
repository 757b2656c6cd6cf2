# Each target says in its `##` comment what it does; `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input install
PIP_US := $(PIP) --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
TESTS := $(wildcard tests/unit tests/fuzz tests/contract tests/integration tests/interop tests/browser tests/e2e)
# what the real servers and the clients of the tests need: command=Debian package
SYSTEM := java=openjdk-17-jre-headless mvn=maven redis-server=redis-server node=nodejs npm=npm chromium=chromium openssl=openssl kcat=kcat cc=build-essential

.PHONY: help
help: ## show this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: .venv/installed ## make .venv with the locked dependencies and the command .venv/bin/tocsin

.PHONY: demo
demo: .venv/installed ## start everything on embedded servers and watch notifications arrive (ONCE=1: one round)
	exec $(BIN)/python -m cli demo $(if $(ONCE),--once)

.PHONY: test
test: system lint types native ## install what is missing, then lint, types and all tests against real servers
	$(BIN)/python -m stack.fetch
	$(BIN)/python -m pytest --quiet -m "not thorough" --numprocesses 2 --dist loadfile --cov --cov-report=term $(TESTS)
	$(BIN)/python -m pytest --quiet -p tests.without_native tests/unit/gateway tests/unit/delivery
	$(BIN)/python -m pytest --quiet -m quick tests/faults

.PHONY: faults
faults: SYSTEM += go=golang-go faketime=faketime
faults: system .venv/installed-dev native ## break servers, networks and processes on purpose and prove that no promise is broken (ONLY=name: some; AT_ONCE=1: one by one)
	$(BIN)/python -m stack.fetch
	$(BIN)/python -m pytest --quiet --numprocesses $(or $(AT_ONCE),2) --dist loadfile tests/faults $(if $(ONLY),-k "$(ONLY)")
	$(if $(ONLY),,$(BIN)/python -m pytest --quiet -m thorough tests/integration tests/e2e)

.PHONY: soak
soak: SYSTEM += go=golang-go
soak: system .venv/installed-dev native ## load with faults at random for MINUTES=60, then what was broken and what grows (SEED=n: again)
	$(BIN)/python -m stack.fetch
	exec $(BIN)/python -m proof.soak --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED))

.PHONY: lint
lint: .venv/installed-dev ## style, format and which room may import which
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	rooms=$$($(BIN)/lint-imports 2>&1) || { echo "$$rooms"; exit 1; }

.PHONY: types
types: .venv/installed-dev ## mypy --strict
	$(BIN)/mypy

.PHONY: bench
bench: SYSTEM += go=golang-go
bench: system .venv/installed-dev native ## measure everything, beside other systems too: tables, JSON and drawings in build/bench, more than an hour (QUICK=1: a glance)
	$(BIN)/python -m stack.fetch
	exec $(BIN)/python -m bench all $(if $(QUICK),--quick)

.PHONY: fuzz
fuzz: .venv/installed-dev ## a million hostile inputs for everything that reads what others say (INPUTS=1000000 SEED=)
	exec $(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),1000000) $(if $(SEED),--seed $(SEED))

.PHONY: clean
clean: ## remove what was made in this folder: .venv, caches, .tocsin
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .tocsin build ./*.egg-info
	rm -f gateway/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: requirements.txt pyproject.toml $(wildcard gateway/native/*) | $(BIN)/pip
	echo "installing the locked dependencies into .venv ..." >&2
	$(PIP) --require-hashes --requirement requirements.txt
	$(PIP_US)
	touch $@

# What is in C as well is built by the installation if there is a compiler; here, if one has come since.
.PHONY: native
native: .venv/installed
	compgen -G 'gateway/_passing.*.so' > /dev/null || $(PIP_US)

.venv/installed-dev: requirements-dev.txt .venv/installed
	echo "installing the tools of development into .venv ..." >&2
	$(PIP) --require-hashes --requirement requirements-dev.txt
	touch $@

# Debian's Python comes without what `venv` needs, in a package of its own.
$(BIN)/pip:
	for python in $(PYTHON) python3 python3.12 python3.13; do
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && break || python=
	done
	test -n "$$python" || { echo "make: Python 3.11 or newer is missing; PYTHON=/path/to/python names another" >&2; exit 1; }
	if ! "$$python" -c 'import ensurepip, venv' 2> /dev/null; then
		package=python$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
		$(call apt,$$package,"$$python")
	fi
	"$$python" -m venv .venv

.PHONY: system
system:
	missing=
	for pair in $(SYSTEM); do
		command -v "$${pair%%=*}" > /dev/null || missing="$$missing $${pair#*=}"
	done
	if test -n "$$missing"; then
		$(call apt,$$missing,the tests)
	fi

# $(call apt,packages,who needs them): install them where we may, else say what to do.
define apt
if test "$$(id -u)" = 0 && command -v apt-get > /dev/null; then
	echo "installing $(1) ..." >&2
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq > /dev/null
	apt-get install -qq -y --no-install-recommends $(1) > /dev/null
else
	echo "make: $(2) needs: $(1); as root: apt-get install $(1)" >&2
	exit 1
fi
endef
