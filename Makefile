# mmscope's front door. `make help` lists the targets; each is a line over the mmscope command.

ARCH ?= x86_64
PYTHON ?= python3
KERNEL ?=
RUNS ?= runs

VENV := .venv
BIN := $(VENV)/bin
MMSCOPE := $(BIN)/mmscope
WHERE = --runs $(RUNS) $(if $(KERNEL),--kernel $(KERNEL))
RUN = $(MMSCOPE) run --arch $(ARCH) $(WHERE)

REPLAYS ?= replay-uma1 replay-uma2 replay-numa1 replay-numa2
REPLAY_KERNELS ?= $(or $(KERNEL),default)
# Both, unless the caller named one.
REPLAY_ARCHES = $(if $(filter file,$(origin ARCH)),x86_64 arm64,$(ARCH))

CAPTURES ?= tests/fixtures/captures
COMPARISON ?= slub-slab-slob
SWEEPS ?= $(wildcard $(RUNS)/*/sweep.json)
ONLY ?= *

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup boot-uma boot-numa boot-numa4 shell replay captures conformance comparisons sweep tour kernels doctor test test-fast lint format bench lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: ARCH=x86_64|arm64|i386  KERNEL=suite[/flavour]  RUNS=directory"
	@echo "  make replay also knows REPLAYS and REPLAY_KERNELS, each a list"

setup: $(VENV)/.ready ## Install what is missing: Debian packages and a virtual environment

$(VENV)/.ready: requirements.lock pyproject.toml harness/setup-host.sh
	PYTHON=$(PYTHON) sh harness/setup-host.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

boot-uma: setup ## Boot, load, sample, check and plot one plain node
	$(RUN) boot-uma

boot-numa: setup ## The same on two NUMA nodes
	$(RUN) boot-numa

boot-numa4: setup ## The same on four unequal nodes, one without memory
	$(RUN) boot-numa4

shell: setup ## A root shell in a two-node guest
	$(MMSCOPE) boot --arch $(ARCH) --node 512M --node 512M --shell

replay: setup ## Trace every kind of allocation, replay it to the page; ARCH=… for one architecture
	@status=0; runs=; \
	for kernel in $(REPLAY_KERNELS); do for arch in $(REPLAY_ARCHES); do \
		for experiment in $(REPLAYS); do \
			asked=; [ $$kernel = default ] || asked="--kernel $$kernel"; \
			run=$$($(MMSCOPE) run $$experiment --arch $$arch --runs $(RUNS) $$asked --no-check) && \
				runs="$$runs $$run" && $(MMSCOPE) replay $$run || status=$$?; \
		done; \
	done; done; \
	[ -z "$$runs" ] || $(BIN)/python -m analysis.report.replay_table $$runs || status=$$?; \
	exit $$status

captures: setup ## Take the captures of kernel-configs/captures.toml anew; ONLY=pattern for some
	$(MMSCOPE) capture-all kernel-configs/captures.toml $(CAPTURES) --only '$(ONLY)'

conformance: setup ## Hold every rule against every capture; write the README's table
	$(BIN)/python -m analysis.report.conformance $(CAPTURES) --write README.md \
		--details docs/conformance.md

sweep: setup ## Run every variant of a comparison five times: COMPARISON=slub-slab-slob
	$(MMSCOPE) sweep $(COMPARISON) --runs $(RUNS)

comparisons: setup ## Write down what the sweeps below RUNS found
	$(BIN)/python -m analysis.report.comparisons $(patsubst %/sweep.json,%,$(SWEEPS)) \
		--write docs/comparisons.md

tour: setup ## Every stop of the tour on its kernel, then the book; goes on where it stands
	$(MMSCOPE) tour

kernels: setup ## Fetch and build every kernel of the catalogue, with the tools that this takes
	PYTHON=$(PYTHON) sh harness/setup-host.sh kernels
	@status=0; \
	$(MMSCOPE) kernels fetch --all || status=$$?; \
	$(MMSCOPE) kernels build --all || status=$$?; \
	$(MMSCOPE) kernels list || status=$$?; \
	exit $$status

doctor: setup ## Say what is installed, whether KVM works, what is cached
	$(MMSCOPE) doctor

test: setup ## All tests, real boots of both architectures included
	@status=0; \
	$(MAKE) --no-print-directory test-fast || status=$$?; \
	$(BIN)/python -m pytest -m vm || status=$$?; \
	exit $$status

test-fast: setup ## All tests that boot nothing, a worker to a CPU
	$(BIN)/python -m pytest -m "not vm" --numprocesses auto --dist loadfile

lint: setup ## ruff, mypy, the import law, shellcheck, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	shellcheck harness/setup-host.sh .ci/run $(wildcard guest/init/*)
	find guest -name '*.[ch]' -print0 | xargs -0 $(BIN)/clang-format --dry-run -Werror

format: setup ## Rewrite Python and C in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find guest -name '*.[ch]' -print0 | xargs -0 $(BIN)/clang-format -i

bench: setup ## Measure the speed budgets, each beside a baseline of the same run
	$(BIN)/python -m tests.bench

lock: ## Write requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest \
		--generate-hashes --upgrade \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate \
		--extra dev pyproject.toml -o requirements.lock

clean: ## Remove what was built in this tree (not the cache, not the runs)
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find harness analysis tests -name __pycache__ -prune -exec rm -rf {} +
