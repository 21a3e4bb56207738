# Everything here works on a fresh machine with Python 3.10 or later and a package index.
# "make" alone says what there is.

PYTHON ?= python3
# More words for the tests of test-deploy, such as -m 'not slow'.
CHOICE ?=
BIN := .venv/bin
READY := .venv/.ready
DEPLOY_READY := .venv/.deploy-ready

.DEFAULT_GOAL := help
.PHONY: help venv demo example sandbox sandbox-stop check test faults test-confluent test-deploy bundle packages adapter bench growth tooz format lint types man clean

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 22

venv: $(READY) ## make the environment that all others use, in .venv

demo: $(READY) ## see a collective of three servers work, on this machine, in a minute
	@$(BIN)/python -m sandbox.demo

example: $(READY) ## see three node servers share their work, and take over from a killed one
	@$(BIN)/python -m examples.three

sandbox: $(READY) ## leave such a collective running, to play with
	@$(BIN)/python -m sandbox.sandbox

sandbox-stop: $(READY) ## stop and remove it
	@$(BIN)/python -m sandbox.sandbox stop

check: $(READY) ## run what is quick: style, types, layers, names in the documents, unit tests
	@$(BIN)/python -m tools.check --quick

test: $(READY) ## run every check and test
	@$(BIN)/python -m tools.check

faults: $(READY) ## play every fault at every step, with each etcd: takes half an hour or more
	@$(BIN)/python -m tools.etcd_versions fetch
	@COLLECTIVE_FULL=1 $(BIN)/python -m pytest -n 2 --dist loadscope tests/faults

test-confluent: $(READY) ## try the adapter with each Confluent in COLLECTIVE_CONFLUENTS (NAME=PYTHON,LIBRARY[,PROGRAMS];...)
	@$(BIN)/python -m tools.etcd_versions fetch
	@$(BIN)/python -m pytest -n 2 tests/confluent

test-deploy: $(DEPLOY_READY) ## play the playbooks at real systemd hosts, booted here; needs root
	@COLLECTIVE_HOSTS=1 unshare --mount --pid --fork --kill-child --mount-proc --propagation private -- \
		$(BIN)/python -m pytest -x -s -v tests/deploy $(CHOICE)

bundle: $(READY) ## make the bundle that installs a server without a way out, in dist/
	@$(BIN)/python -m tools.bundle

packages: $(READY) ## make a .deb and an .rpm for this machine's /usr/bin/python3, in dist/
	@$(BIN)/python -m tools.packages

adapter: $(READY) ## make the wheel for Confluent's interpreter, in dist/: docs/confluent.md
	@$(BIN)/python -m tools.wheels

bench: $(READY) ## measure, and print a table
	@$(BIN)/python -m tools.etcd_versions fetch
	@$(BIN)/python -m bench

growth: $(READY) ## measure how the store's figures grow with keys and members, and draw it: ten to twenty minutes
	@$(BIN)/python -m tools.etcd_versions fetch
	@$(BIN)/python -m bench.growth
	@$(BIN)/python -m pip install --quiet '.[plot]'
	@$(BIN)/python -m bench.plot

tooz: $(READY) ## run the tests of OpenStack's tooz against members of a collective
	@$(BIN)/python -m tools.etcd_versions fetch
	@$(BIN)/python -m tools.tooz_suite

format: $(READY) ## lay out the code
	@$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format .

lint: $(READY) ## check style and layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: $(READY) ## check types
	@$(BIN)/mypy

man: $(READY) ## make the manual pages, the role's page and the tables of modes from the code
	@$(BIN)/python -m tools.manpages
	@$(BIN)/python -m tools.role_docs
	@$(BIN)/python -m tools.mode_table

clean: ## remove all that make has made
	rm -rf .venv .cache build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): setup.cfg setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "error: Python 3.10 or later is needed, '$(PYTHON)' is not" >&2; \
		echo "hint: name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: '$(PYTHON)' has no venv module" >&2; \
		echo "hint: install it (on Debian: apt-get install python3-venv)," \
			"or name another Python: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@# An old pip writes start scripts that are slow to start.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[test,sandbox]'
	@touch $@

$(DEPLOY_READY): $(READY)
	$(BIN)/python -m pip install --quiet -e '.[test,sandbox,deploy]'
	@touch $@
