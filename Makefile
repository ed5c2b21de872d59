# The commands of this repository. `make demo` and `make test` need nothing but a Debian 12 or Ubuntu 24.04
# and root: they install what is missing, once, and say what they do.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VENV := .venv
BIN := $(VENV)/bin
BUILD := build
LOG := $(BUILD)/setup.log
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
SHIM := $(BUILD)/cni/moorage
SHIM_CC := musl-gcc
SHIM_FLAGS := -std=c11 -static -Os -Wall -Wextra -Werror
UV := $(BUILD)/uv
UV_VERSION := 0.13.9
AUDIT := $(VENV)/.audit
SBOM := $(BUILD)/sbom.json
PRODUCT := schemas broker allocator node_worker cni console compose
MAX_LINES := 400
NODES ?= 2
MINUTES ?= 10
QUICK_TESTS := not chaos and not cluster and not documents and not images
VM_TESTS := tests/vm $(addprefix tests/integration/test_node_,drivers.py probe.py bridge.py endpoint.py batch.py)

PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
COMPILE := $(UV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url

# Runs $(1) with its output in the log; shows the log's end if it fails.
define quietly
@mkdir -p $(BUILD); $(1) >$(LOG) 2>&1 || { tail -n 40 $(LOG) >&2; \
	echo "make $@: failed, the whole output is in $(LOG)" >&2; exit 1; }
endef

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo up test test-docs chaos cluster images test-vm bench soak check static sizes shim lock clean \
	packages plugins test-packages vm-packages chaos-packages cluster-packages image-packages browser \
	screenshots docs asyncapi audit sbom

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUNTIME) $(SHIM) ## the main job as a story on this machine, each step checked
	@$(BIN)/moorage demo

up: $(RUNTIME) $(SHIM) ## everything on this machine in the foreground, with NODES=2 simulated nodes
	@$(BIN)/moorage up --nodes $(NODES)

# Test data lies on a disk, not in memory: what is durable is part of what is tested. Its path is short, for
# it holds sockets. It is kept for a look after a failure, until a run two hours later.
test: static $(SHIM) | test-packages ## all checks and most tests, on servers of their own; twelve minutes
	@find /var/tmp -maxdepth 1 -name 'moorage.????' -user $$(id -u) -mmin +120 -exec rm -rf {} +
	@data=$$(mktemp -d /var/tmp/moorage.XXXX); \
		$(BIN)/pytest -n 2 --dist loadgroup --basetemp=$$data -m "$(QUICK_TESTS)" && rm -rf $$data

test-docs: $(DEV) $(SHIM) | test-packages ## every command that a document shows, where it can be run; six minutes
	@find /var/tmp -maxdepth 1 -name 'moorage.????' -user $$(id -u) -mmin +120 -exec rm -rf {} +
	@data=$$(mktemp -d /var/tmp/moorage.XXXX); \
		$(BIN)/pytest -n 2 --dist loadgroup --basetemp=$$data -m documents tests/docs && rm -rf $$data

chaos: $(DEV) $(SHIM) | chaos-packages ## every fault that must be survived, tried on real processes; ten minutes
	@find /var/tmp -maxdepth 1 -name 'moorage.????' -user $$(id -u) -mmin +120 -exec rm -rf {} +
	@data=$$(mktemp -d /var/tmp/moorage.XXXX); \
		$(BIN)/pytest -n 2 --dist loadgroup --basetemp=$$data -m chaos tests/chaos && rm -rf $$data

cluster: $(DEV) | cluster-packages ## three brokers and three databases, of which one is killed; some minutes
	@find /var/tmp -maxdepth 1 -name 'moorage.????' -user $$(id -u) -mmin +120 -exec rm -rf {} +
	@data=$$(mktemp -d /var/tmp/moorage.XXXX); \
		$(BIN)/pytest --basetemp=$$data -m cluster tests/cluster && rm -rf $$data

test-vm: $(DEV) | vm-packages ## what this kernel cannot show: tests of links in a virtual machine, some minutes
	@$(BIN)/python -m tests.vm.run -p no:cacheprovider -m netns -v --timeout 600 $(VM_TESTS)

images: $(DEV) | image-packages ## build the images from a base of debootstrap's, and run them; five minutes
	@data=$$(mktemp -d /var/tmp/moorage.XXXX); \
		$(BIN)/pytest -v --basetemp=$$data/t -m images tests/images && rm -rf $$data

bench: $(DEV) $(SHIM) | plugins browser cluster-packages ## measure what must hold, on servers of its own: all, or ONLY=name,name; QUICK=1, FULL=1
	@$(BIN)/python -m bench.run $(if $(ONLY),--only $(ONLY)) --size $(if $(QUICK),quick,$(if $(FULL),full,normal))

screenshots: $(DEV) $(SHIM) | browser ## take those of the README anew
	@MOORAGE_SCREENSHOTS=$(CURDIR)/docs/screenshots $(BIN)/pytest -q tests/browser

soak: $(RUNTIME) $(SHIM) ## pods come, move and go while all is killed at random: MINUTES=10, SEED=n to repeat one
	@$(BIN)/python -m bench.soak.run --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

check: static ## ruff, mypy, bandit, import-linter, file sizes and unit tests; under a minute
	@$(BIN)/pytest -q -n auto tests/unit

static: $(DEV)
	@echo "check: ruff, mypy, bandit, import-linter, file sizes"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check --config 'format.exclude = ["*.md"]' .
	@$(BIN)/mypy
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive $(PRODUCT)
	@$(BIN)/lint-imports --no-cache >$(BUILD)/imports.log || { cat $(BUILD)/imports.log; exit 1; }
	@$(MAKE) sizes

sizes:
	@git -c safe.directory='*' ls-files -z '*.py' '*.c' | xargs -0 -r wc -l | awk -v most=$(MAX_LINES) \
		'$$2 != "total" && $$1 > most {print $$2 ": " $$1 " lines, at most " most; bad = 1} END {exit bad}'

# What MkDocs warns of ends it: links, anchors and pages that are in no menu. With --quiet it would not count what
# it does not say. The variable silences an advertisement.
docs: $(DEV) ## build the documentation's site into build/site
	@mkdir -p $(BUILD)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict >$(BUILD)/docs.log 2>&1 || { cat $(BUILD)/docs.log; exit 1; }
	@echo "docs: build/site/index.html"

asyncapi: $(DEV) ## write docs/asyncapi.yaml and docs/message-reference.md anew from the models
	@$(BIN)/python -m docs.making.write

audit: $(AUDIT) ## look up all pinned libraries among known vulnerabilities; `Error 2` if nobody can be asked
	@$(BIN)/python -m tests.supply.audit

sbom: $(AUDIT) ## write what the product is made of into build/sbom.json (CycloneDX)
	@mkdir -p $(BUILD)
	@$(BIN)/cyclonedx-py requirements --output-reproducible -o $(SBOM) requirements.lock
	@echo "sbom: $(SBOM)"

shim: $(SHIM) ## build the CNI executable

$(SHIM): cni/shim.c Makefile | packages
	@echo "shim: compiling $@"
	@mkdir -p $(@D)
	@$(SHIM_CC) $(SHIM_FLAGS) -o $@ $<

lock: $(UV)/bin/uv ## resolve the dependencies anew and pin them by hash
	$(COMPILE) --extra build setup.cfg -o requirements.lock
	$(COMPILE) --extra build --extra dev --extra docs -c requirements.lock setup.cfg -o requirements-dev.lock
	$(COMPILE) --extra audit -c requirements-dev.lock setup.cfg -o requirements-audit.lock

$(UV)/bin/uv: Makefile | packages
	@echo "lock: installing uv $(UV_VERSION) into $(UV)"
	$(call quietly,"$$(sh compose/python.sh)" -m venv --clear $(UV) \
		&& $(UV)/bin/pip install --disable-pip-version-check uv==$(UV_VERSION))
	@touch $@

packages:
	@mkdir -p $(BUILD)
	@sh compose/packages.sh $(BUILD)/packages.log

browser: | packages
	@sh compose/packages.sh $(BUILD)/packages.log browser

plugins test-packages: | packages
	@sh compose/packages.sh $(BUILD)/packages.log plugins \
		$(if $(filter test-packages,$@),runtimes browser kubernetes documents)

chaos-packages: | packages
	@sh compose/packages.sh $(BUILD)/packages.log chaos

cluster-packages: | packages
	@sh compose/packages.sh $(BUILD)/packages.log cluster

image-packages: | packages
	@sh compose/packages.sh $(BUILD)/packages.log images

vm-packages: | packages
	@sh compose/packages.sh $(BUILD)/packages.log vm

$(BIN)/python: | packages
	@python=$$(sh compose/python.sh) && echo "python: making $(VENV) with $$python"
	$(call quietly,"$$(sh compose/python.sh)" -m venv --clear $(VENV))

$(RUNTIME): requirements.lock setup.cfg pyproject.toml | $(BIN)/python
	@echo "python: installing the pinned libraries of requirements.lock"
	$(call quietly,$(PIP) install --require-hashes -r requirements.lock)
	$(call quietly,$(PIP) install --no-index --no-deps --no-build-isolation -e .)
	@touch $@

$(DEV): requirements-dev.lock requirements.lock setup.cfg pyproject.toml | $(BIN)/python
	@echo "python: installing the pinned libraries and tools of requirements-dev.lock"
	$(call quietly,$(PIP) install --require-hashes -r requirements-dev.lock)
	$(call quietly,$(PIP) install --no-index --no-deps --no-build-isolation -e .)
	@touch $(RUNTIME) $@

$(AUDIT): requirements-audit.lock | $(DEV)
	@echo "python: installing the pinned tools of requirements-audit.lock"
	$(call quietly,$(PIP) install --require-hashes -r requirements-audit.lock)
	@touch $@

clean: ## remove what can be made again (not .state, the data of `make up`)
	rm -rf $(BUILD) $(VENV) moorage.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
