# The few commands of a working day. CMake does the work (CMakePresets.json); this file remembers how to call it.

PRESET    ?= release
DEMO_ARGS ?=
TEST_ARGS ?=
LEAP      := build/$(PRESET)/leap
# As many jobs as cores, and no more than one per 1.5 GiB of memory: a sanitizer build takes that much.
JOBS      ?= $(shell awk -v cores=$$(nproc) '/MemTotal/ {n = int($$2 / 1572864)} END {print n < 1 ? 1 : (n < cores ? n : cores)}' /proc/meminfo)

RUN_TESTS = scripts/run_tests.py --jobs $(JOBS) $(TEST_ARGS)

.PHONY: all test demo bench check asan tsan tidy format format-check clean help test-deps

all: ## (default) the release binary, build/release/leap
	@scripts/install-deps.sh build
	@cmake --preset $(PRESET) --log-level=WARNING
	@cmake --build build/$(PRESET) --target leap --parallel $(JOBS)
	@echo "built: $(LEAP)"

test: test-deps ## every test: release, structure, lint, system, interop, sanitizers; names every skip
	@$(RUN_TESTS)

check: test-deps ## the quick half of `make test`: release tests, structure, format
	@$(RUN_TESTS) --only unit,headers,structure,format

asan: test-deps ## the tests under the address and undefined-behaviour sanitizers
	@$(RUN_TESTS) --only asan-ubsan

tsan: test-deps ## the tests under the thread sanitizer
	@$(RUN_TESTS) --only tsan

tidy: test-deps ## clang-tidy over src/; remembers clean files
	@$(RUN_TESTS) --only tidy

demo: all ## store a directory tree, restart the worker, verify every byte: make demo DEMO_ARGS="--help"
	@$(LEAP) demo $(DEMO_ARGS)

bench: all ## IOPS, latency and CPU against a target in memory; the micro-benchmarks
	@scripts/bench.py --build-dir build/$(PRESET) --jobs $(JOBS)

format: test-deps ## rewrite the sources with clang-format
	@scripts/format.sh

format-check: test-deps
	@scripts/format.sh --check

clean: ## remove everything that was built
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test-deps:
	@scripts/install-deps.sh
