# Two commands matter: `make up` sets everything up and runs Atelier; `make test` sets everything up and tests it.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/atelier
# A folder for each checkout: cargo goes by the age of a source, not by whose it is, so that two checkouts which shared one would
# run each other's code.
export CARGO_TARGET_DIR ?= $(CACHE)/target-$(shell printf %s '$(CURDIR)' | sha256sum | cut -c1-12)
# A newer Node that scripts/setup.sh may have fetched comes first.
export PATH := $(CACHE)/node/node_modules/node/bin:$(HOME)/.cargo/bin:$(PATH)
PYTHON_VENV := $(CACHE)/test-python
ATELIER := $(CARGO_TARGET_DIR)/release/atelier
say = @printf '\033[1m[%s]\033[0m %s\n' "$@"

SERVERS_SH := infra/servers/servers.sh
ifdef SERVERS
# `SERVERS=1` are the usual ones, other words are names.
export ATELIER_SERVERS := $(if $(filter-out 1,$(SERVERS)),$(SERVERS),kafka postgres redis s3 prometheus jaeger)
ON_SERVERS := eval "$$($(SERVERS_SH) env)"; export ATELIER_CONFIG=$${ATELIER_CONFIG:-infra/servers/atelier.toml} \
	ATELIER_DATA_DIR=$${ATELIER_DATA_DIR:-data/servers/atelier};
endif

.PHONY: help up servers servers-stop chaos chaos-planted chaos-servers test-servers test bench bench-quality bench-servers bench-servers-install fmt fmt-check lint docs generate setup setup-test web build models test-build test-models test-python test-rust test-web test-e2e

help: ## Show this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

up: build models $(if $(SERVERS),servers) ## Set up, build and run everything on loopback; SERVERS=1: on the real servers; Ctrl-C drains and stops
	$(say) "starting"
	@$(ON_SERVERS) exec "$(ATELIER)" up --sample samples/dress.jpg $(ARGS)

servers: ## Install and start the real servers on loopback, and say how they are (SERVERS="kafka s3" chooses)
	@scripts/setup.sh servers
	@$(SERVERS_SH) start

servers-stop: ## Stop what `make servers` started, and nothing else
	@$(SERVERS_SH) stop

# The test build: it has the planted bugs in it, which do nothing unless one is asked for.
CHAOS := "$(CARGO_TARGET_DIR)/debug/atelier-chaos"

chaos: test-models $(if $(filter servers cluster,$(ON)),chaos-servers) ## Kill, stop and cut off processes, then prove that nothing is lost or doubled (SEED=1 RUNS=1 JOBS=1 ON=servers or cluster)
	@$(CHAOS) --seed $(or $(SEED),1) --runs $(or $(RUNS),1) --jobs $(or $(JOBS),1) --on $(or $(ON),embedded) $(ARGS)

chaos-planted: test-models ## Plant five bugs, one after the other, and see each of them found
	@$(CHAOS) --planted $(ARGS)

chaos-servers:
	@scripts/setup.sh servers
	@$(SERVERS_SH) install kafka postgres s3

test: setup-test web test-rust test-web test-e2e ## Set up and run every test
	$(say) "all tests passed"

bench: build models ## Print the figures that README quotes
	$(say) "benchmarks: close other programs, figures are ratios of runs side by side"
	@scripts/bench.sh

bench-quality: models ## Score cut-outs against known mattes (DATA=folder with data/cutouts and measure/, REMBG_PYTHON=interpreter with rembg)
	@test -n "$(DATA)" || { echo "DATA= is to name a folder that holds data/cutouts and measure/cutout_metrics.py"; exit 2; }
	@cargo build --quiet --release -p atelier-models --example mask
	@$(or $(REMBG_PYTHON),python3) models/bench/score.py "$(CARGO_TARGET_DIR)/release/examples/mask" "$(DATA)" "$(CARGO_TARGET_DIR)/bench-quality" \
		$(if $(REMBG_PYTHON),--rembg "$(REMBG_PYTHON)") $(ARGS)

bench-servers: build models test-python bench-servers-install ## Print the figures on real servers, under load and after kills (FIGURES="python chain" chooses)
	$(say) "benchmarks: close other programs, figures are ratios of runs side by side"
	@ATELIER_TEST_PYTHON="$(PYTHON_VENV)/bin/python" scripts/bench-servers.sh $(FIGURES)

bench-servers-install:
	@scripts/setup.sh servers
	@$(SERVERS_SH) install kafka postgres s3

fmt: ## Format the code
	@cargo fmt --all
	@cd gateway/web && npm run --silent format

fmt-check:
	@cargo fmt --all --check

lint: web ## Lint: warnings are errors
	@cargo clippy --workspace --all-targets --quiet -- -D warnings
	@cd gateway/web && npm run --silent lint && npm run --silent typecheck

docs: web
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

generate: web ## Write the generated documents anew (JSON Schema, AsyncAPI, OpenAPI, config reference)
	@UPDATE_GENERATED=1 cargo test --quiet --workspace --test generated --test openapi --test tidy

setup:
	@scripts/setup.sh

setup-test:
	@scripts/setup.sh test

WEB_SOURCES := $(shell find gateway/web -path gateway/web/node_modules -prune -o -path gateway/web/dist -prune -o -type f -print 2>/dev/null)

web: gateway/web/dist/index.html

gateway/web/node_modules/.package-lock.json: gateway/web/package.json gateway/web/package-lock.json
	@printf '\033[1m[web]\033[0m installing the page'"'"'s packages\n'
	@cd gateway/web && npm ci --no-fund --no-audit --loglevel=error && touch node_modules/.package-lock.json

gateway/web/dist/index.html: gateway/web/node_modules/.package-lock.json $(WEB_SOURCES)
	@printf '\033[1m[web]\033[0m building the page\n'
	@cd gateway/web && npm run --silent build && touch dist/index.html

build: setup web
	$(say) "building (the first time takes some minutes)"
	@cargo build --release -p atelier -p atelier-broker

models: build
	@"$(ATELIER)" models pull

# The whole workspace as the tests want it: some packages alone would have fewer features, and be built again for the tests.
test-build: setup-test web
	$(say) "building the tests and what they run"
	@cargo test --workspace --no-run

# OpenVINO is tried by name, also where `auto` does not prefer it.
test-models: test-build
	@"$(CARGO_TARGET_DIR)/debug/atelier" models pull
	@test "$$(uname -m)" != x86_64 || "$(CARGO_TARGET_DIR)/debug/atelier" models pull onnxruntime-openvino

test-python: $(PYTHON_VENV)/.stamp

$(PYTHON_VENV)/.stamp: infra/kafka/embedded/tests/python/requirements.txt
	@printf '\033[1m[test-python]\033[0m installing the second Kafka client\n'
	@python3 -m venv "$(PYTHON_VENV)" && "$(PYTHON_VENV)/bin/pip" install --quiet --disable-pip-version-check -r $< && touch $@

TEST_SERVERS := kafka prometheus redis s3 jaeger

test-servers: setup-test
	@$(SERVERS_SH) install $(TEST_SERVERS)

test-rust: test-models test-python test-servers
	$(say) "running the Rust tests"
	@ATELIER_REQUIRE_SERVERS="$(TEST_SERVERS)" ATELIER_TEST_PYTHON="$(PYTHON_VENV)/bin/python" scripts/test-rust.py

test-web: web
	$(say) "running the page's tests"
	@cd gateway/web && npm test --silent

test-e2e: test-models web
	$(say) "running the page in Chromium against the real pipeline"
	@scripts/e2e-page.sh
