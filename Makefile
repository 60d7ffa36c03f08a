# From set-up to benchmarks; `make help` lists the targets.
#
# Every target sets up what it needs: Debian packages that are missing (as root; others
# are told the command), a virtual environment in .venv, Python packages at the versions
# of requirements-dev.lock, the Rust extension. What is up to date isn't done again.
# ARGS is passed on: make demo ARGS=--once, make test ARGS="-k reload".

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Most tests wait most of the time. More at once than so many wait for each other.
AT_ONCE := $(shell expr $$(nproc) '*' 2 + 1)
TESTS_AT_ONCE := $(AT_ONCE)
TESTS_ALONE := 1
# Those of Rust are over long before those of Python: few at a time leave these more of the machine.
export RUST_TEST_THREADS ?= $(shell expr $$(nproc) '*' 2)
PYTEST = $(BIN)/pytest --numprocesses $(TESTS_AT_ONCE) --dist worksteal
# Each worker of pytest would compile every test and module again.
unexport PYTHONDONTWRITEBYTECODE
# What the extension is made of. The folders count too: a file that is gone is a change.
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(wildcard rust/*/Cargo.toml) rust/flow/build.rs \
	$(shell find rust/core/src rust/ffi/src rust/flow/src rust/flow/bpf)

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo: setup  ## run a balancer with servers and load on this machine, and show it
	$(BIN)/mailweir demo $(ARGS)

# Each worker of pytest would rewrite what it imports; together they would do it all at once.
$(VENV)/tests-rewritten: $(shell find tests -name '*.py') | setup
	@# What it has against a test, the run itself will say.
	@$(BIN)/pytest --collect-only --quiet >/dev/null && touch $@ || true

.PHONY: test
test: setup $(VENV)/tests-rewritten  ## run all tests, Rust's and Python's (ARGS goes to pytest)
	cargo test --locked --quiet --no-run
	@said=$$(mktemp); rust=0 beside=0 alone=0; \
	cargo test --locked --quiet >"$$said" 2>&1 & cargo=$$!; \
	trap 'kill $$cargo 2>/dev/null || true; rm "$$said"' EXIT; \
	$(PYTEST) -m "not alone" $(ARGS) || beside=$$?; \
	wait $$cargo || rust=$$?; cat "$$said"; \
	$(BIN)/pytest --numprocesses $(TESTS_ALONE) -m alone $(ARGS) || alone=$$?; \
	# 5: of these ARGS choose none. \
	[[ "$$rust $$beside $$alone" =~ ^0\ (0 0|0 5|5 0)$$ ]]

.PHONY: test-quick
test-quick: setup $(VENV)/tests-rewritten  ## run those tests of Python alone that need no root: at each change
	$(PYTEST) tests/unit tests/ffi tests/arch $(ARGS)

.PHONY: test-long
test-long: export MAILWEIR_LONG := 1
test-long: TESTS_AT_ONCE := 0
test-long: TESTS_ALONE := 0
test-long: test  ## the same with full counts (MAILWEIR_LONG=1)

.PHONY: soak-pair
soak-pair: export MAILWEIR_SOAK ?= 3600
soak-pair: setup  ## have a pair run with busy processors, an hour long (MAILWEIR_SOAK=seconds)
	$(BIN)/pytest tests/scenarios/test_pair_soak.py $(ARGS)

.PHONY: soak-checks
soak-checks: export MAILWEIR_SOAK ?= 3600
soak-checks: setup  ## have real servers checked at the default pace, an hour long (MAILWEIR_SOAK=seconds)
	$(BIN)/pytest tests/scenarios/test_checks_leave_no_trace.py -k default_pace $(ARGS)

.PHONY: wheel
wheel: setup  ## the Python wheel with the extension, into target/package
	@rm -f target/package/*.whl
	PIP_QUIET=1 $(BIN)/maturin build --release --locked --compatibility linux --out target/package

.PHONY: deb
deb: wheel  ## the Debian package for this release, into target/package (REVISION=2: another build)
	@.ci/need deb
	@packaging/deb/build target/package/*.whl requirements.lock target/package

.PHONY: check
check:  ## run what CI runs: formats, lints, types, import rules, tests
	.ci/run

.PHONY: newcomer
newcomer:  ## the README's two commands in a bare Debian 12, as root (ARGS goes to .ci/newcomer)
	@.ci/newcomer $(ARGS)

.PHONY: installed
installed: setup  ## the Debian package in a bare Debian 12 with systemd, as root (ARGS goes to pytest)
	@.ci/installed $(ARGS)

.PHONY: bench
bench: setup  ## measure mailweir beside HAProxy and nginx (ARGS goes to benches/peers/run.py)
	@.ci/need bench
	$(BIN)/python benches/peers/run.py $(ARGS)

.PHONY: bench-routed
bench-routed: setup  ## the same between three networks, with the kernel path (to benches/peers/routed.py)
	@.ci/need bench
	$(BIN)/python benches/peers/routed.py $(ARGS)

.PHONY: bench-far
bench-far: setup  ## sessions in the kernel and routed ones, with loss and a far end (to benches/peers/far.py)
	@.ci/need bench
	$(BIN)/python benches/peers/far.py $(ARGS)

.PHONY: bench-bulk
bench-bulk: setup  ## how long 20 MB take to and from far away, on each path (to benches/peers/bulk.py)
	@.ci/need bench
	$(BIN)/python benches/peers/bulk.py $(ARGS)

.PHONY: bench-flows
bench-flows: setup  ## the kernel path with 60 000 and 200 000 flows (ARGS goes to benches/flows/run.py)
	@.ci/need flows
	$(BIN)/python benches/flows/run.py $(ARGS)

.PHONY: bench-choosing
bench-choosing: setup  ## measure ways to balance and slow start (ARGS goes to benches/choosing/slow.py)
	@.ci/need bench
	$(BIN)/python benches/choosing/slow.py $(ARGS)
	$(BIN)/python benches/choosing/slow_start.py

.PHONY: bench-failover
bench-failover: setup  ## measure how long a shared address is out (ARGS goes to benches/failover/run.py)
	@.ci/need failover
	$(BIN)/python benches/failover/run.py $(ARGS)

.PHONY: bench-restarts
bench-restarts: setup  ## measure what a restart, an upgrade and a reload cost (to benches/restarts/run.py)
	@.ci/need bench
	$(BIN)/python benches/restarts/run.py $(ARGS)

.PHONY: bench-control
bench-control: export MAILWEIR_TEST_LIMIT := 120
bench-control: setup  ## measure the control plane by size of the farm (ARGS goes to pytest)
	$(BIN)/python -m pytest benches/control/suite.py --override-ini=timeout=600 \
	  --benchmark-columns=median,min,max,rounds --benchmark-group-by=func $(ARGS)
	$(BIN)/python benches/control/large.py

.PHONY: bench-checks
bench-checks: setup  ## measure what checks of 2 000 servers cost (ARGS goes to benches/checks/run.py)
	$(BIN)/python benches/checks/run.py $(ARGS)

.PHONY: bench-core
bench-core: need  ## measure tables of the data plane, in nanoseconds (ARGS goes to criterion)
	@cargo bench --locked --quiet --package mailweir-core --bench tables -- $(ARGS)

.PHONY: fuzz
fuzz: need  ## fuzz the parsers and the check, 10 minutes each (ARGS goes to libFuzzer)
	@.ci/need fuzz
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	@cd rust/fuzz; for target in client_hello dialogue greeting spec_snapshot; do \
	  echo "== $$target"; \
	  mkdir -p corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . $$target \
	    corpus/$$target corpus-seeds/$$target -- -max_total_time=600 $(ARGS); \
	done

.PHONY: docs
docs: setup  ## write the pages of docs/reference anew, from the code
	PYTHONPATH=docs $(BIN)/python -m generator

.PHONY: fmt
fmt: $(VENV)/.packages  ## format all sources
	cargo fmt --all
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

.PHONY: lock
lock: need  ## renew Cargo.lock and the two of Python to the newest versions allowed
	cargo update
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet uv
	compile() { sed '/^[^#]/,$$d' "$$1"; \
	  $(VENV)/lock/bin/uv pip compile pyproject.toml "$${@:2}" --generate-hashes \
	    --python-version 3.11 --python-platform linux --annotation-style line --no-header \
	    --quiet; \
	}; \
	compile requirements-dev.lock --extra dev --upgrade > $(VENV)/lock/dev; \
	sed -n 's/^\([^# ]*==[^ ]*\).*/\1/p' $(VENV)/lock/dev > $(VENV)/lock/same; \
	compile requirements.lock --extra demo --extra vip --constraint $(VENV)/lock/same \
	  > $(VENV)/lock/run; \
	mv $(VENV)/lock/dev requirements-dev.lock; \
	mv $(VENV)/lock/run requirements.lock

# --- set-up ------------------------------------------------------------------

.PHONY: setup
setup: $(VENV)/.extension  ## only the set-up
	@.ci/need built

.PHONY: need
need:
	@PYTHON=$(PYTHON) .ci/need build

# Notes of what all is made with: rewritten where that differs, else as old as they were.
$(VENV)/.python $(VENV)/.tools &: need
	@PYTHON=$(PYTHON) .ci/venv

$(VENV)/.packages: requirements-dev.lock $(VENV)/.python
	@touch $(VENV)/.unfinished
	@echo "installing Python packages into $(VENV)"
	@$(BIN)/pip install --quiet --require-hashes --requirement requirements-dev.lock || \
	  { echo "no Python packages: set-up needs the network, or a mirror (PIP_INDEX_URL)" >&2; exit 1; }
	@mv $(VENV)/.unfinished $@

# A mark of an extension that is gone counts for nothing.
GONE := $(if $(wildcard python/mailweir/_dataplane.abi3.so),,need)

$(VENV)/.extension: $(VENV)/.packages $(VENV)/.tools $(SOURCES) $(GONE)
	@# No index: what the lock file lacks is an error and not a surprise.
	PIP_NO_INDEX=1 PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/$(VENV) \
	  $(BIN)/maturin develop --release --locked
	@touch $@
