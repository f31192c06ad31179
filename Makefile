# wasi-warden: `make demo` and `make test` are the two commands to begin with. Each installs what is missing and says so.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
# What is built must not be writable by a group: warden would refuse to run it.
CAREFUL := umask 022;
# Nothing here may be changed by what a build finds out.
LOCKED := --locked

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Build, then let a task find and fix a bug in a small git repository: no key, no network
	@tools/setup build
	$(CAREFUL) $(CARGO) build --release $(LOCKED)
	examples/demo/run

.PHONY: test
test: ## Build everything and run every test: the whole gate
	@tools/setup test
	$(MAKE) --no-print-directory lint
	$(CAREFUL) $(CARGO) build $(LOCKED) --workspace --all-targets
	$(MAKE) --no-print-directory test-guests test-workspace

.PHONY: test-guests
test-guests: ## Test the guests: their logic natively, their contracts, what they import
	cd guests && $(CAREFUL) $(CARGO) test $(LOCKED) --workspace

# cargo-nextest where it is installed: a process for each test, and one count. It runs no documentation tests, and `jails`
# has a main of its own, because it forks and so may have one thread only.
.PHONY: test-workspace
test-workspace:
	$(CAREFUL) $(CARGO) test $(LOCKED) --workspace --doc
	@$(CAREFUL) if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; \
		$(CARGO) test $(LOCKED) -p warden-jail --test jails; \
		$(CARGO) nextest run $(LOCKED) --workspace --no-fail-fast -E 'not binary(=jails)'; \
	else \
		set -x; \
		$(CARGO) test $(LOCKED) --workspace --no-fail-fast --lib --bins --tests; \
	fi

.PHONY: lint
lint: ## Formatting, clippy, and licences where cargo-deny is installed
	$(CARGO) fmt --all --check
	cd guests && $(CARGO) fmt --all --check
	$(CAREFUL) $(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then set -x; $(CARGO) deny check licenses bans sources; \
	else echo "cargo-deny is not installed: licences, bans and sources are not checked here"; fi

.PHONY: check
check: lint ## Formatting, clippy and unit tests: under a minute when warm
	$(CAREFUL) $(CARGO) test $(LOCKED) --workspace --lib --bins

.PHONY: build
build: ## Build programs and guests into target/release
	@tools/setup build
	$(CAREFUL) $(CARGO) build --release $(LOCKED)

.PHONY: bench
bench: ## Measure, side by side in one run, the numbers of docs/promises.md
	@tools/setup bench
	$(CAREFUL) $(CARGO) build --release $(LOCKED)
	$(CAREFUL) $(CARGO) run --release $(LOCKED) -p warden-bench

.PHONY: clean
clean: ## Remove everything that was built
	$(CARGO) clean
	cd guests && $(CARGO) clean
