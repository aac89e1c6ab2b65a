# `make demo` asks a real model a private question on this machine; `make test` is the gate.
.PHONY: help setup demo test browser compiled quick test-slow test-js fuzz loopback soak check lint types format lock clean

BIN := .venv/bin
JS := .venv/js
# Tests of processes wait most of their time: one worker more than there are cores.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# A hundred processes are started: without it each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE
N ?= 1000000
MINUTES ?= 10
FIRST ?= 1000
SEED ?= 1
# As typed: make would expand a $$ in it.
override Q := $(value Q)
export Q

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: ## prepare .venv (done by the others as needed)
	@scripts/setup.sh

demo: setup ## a small network on loopback, one private answer; Q="your question"
	@$(BIN)/tussah demo --processes $${Q:+-- "$$Q"}

test: setup browser lint ## format, lint, types, import rules and every quick test
	@$(MAKE) --no-print-directory -j2 types compiled
	@$(MAKE) --no-print-directory quick

browser: | setup
	@scripts/browser.sh

# To rewrite the asserts of every test is half a minute: once, not in each of the workers.
compiled:
	@$(BIN)/pytest -q --collect-only >/dev/null || $(BIN)/pytest -q --collect-only | tail -n 40

quick:
	$(BIN)/pytest -q -n $(JOBS) --dist worksteal

test-slow: setup ## soak, big simulations, long fuzz and many more examples of each property
	$(BIN)/pytest -q -n $(JOBS) --dist worksteal -m slow
	$(BIN)/pytest -q -n $(JOBS) --dist worksteal --hypothesis-profile long

test-js: setup $(JS)/node_modules/.package-lock.json ## an unmodified js-libp2p opens a link (needs npm, fetches the rest)
	$(BIN)/pytest -q -n 0 -m slow tests/p2p/transport/test_js_libp2p.py

$(JS)/node_modules/.package-lock.json: tests/p2p/transport/js/package-lock.json | setup
	@mkdir -p $(JS)
	@cp tests/p2p/transport/js/package.json tests/p2p/transport/js/package-lock.json $(JS)
	cd $(JS) && npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

fuzz: setup ## send a node of ADNL N datagrams (1000000) that are wrong in every way
	TUSSAH_FUZZ=$(N) $(BIN)/pytest -q -n 0 -m slow tests/p2p/adnl/test_fuzz.py

loopback: setup ## twenty processes on real UDP, held against the same nodes simulated
	$(BIN)/python -m simulations.agreement --seed $(SEED)

soak: setup ## draw seeds of money under faults for MINUTES (10); what fails is shrunk and kept
	$(BIN)/python -m simulations.soak --minutes $(MINUTES) --first $(FIRST)

check: setup lint types ## format, lint, types, import rules

lint:
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports

types:
	$(BIN)/mypy

format: setup ## rewrite the sources as the formatter wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## resolve pyproject.toml anew, for every Python we run on (needs uv)
	@for minor in 3.11 3.12 3.13; do \
	  uv pip compile --quiet --upgrade --extra worker --extra sim --extra dev --generate-hashes --no-emit-index-url \
	    --python-version $$minor --output-file requirements/$$minor.lock pyproject.toml; done

clean: ## forget the environment and every cache
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
