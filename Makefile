# Every target sets up what it needs: a virtual environment in .venv/ with greenloop installed in
# it, built from the sources as they are. A second run repeats only what has changed since.
#
# PYTHON chooses the interpreter. Each has its environment and its build to itself, so targets for
# several versions can be run side by side:  make test PYTHON=python3.13

PYTHON ?= python3
# For every call of cargo; continuous integration says --locked here.
CARGO_FLAGS ?=
# For pytest, benches/run.py and demo/run.py:  make test PYTEST_FLAGS='-k timeout -x'
PYTEST_FLAGS ?=
BENCH_FLAGS ?=
DEMO_FLAGS ?=
CONFORMANCE_FLAGS ?=
AARCH64_FLAGS ?=

SETUP = $(PYTHON) tools/environment.py --cargo-flags='$(CARGO_FLAGS)'
# Asked for once, and only by targets that need it.
TAG = $(eval TAG := $$(shell $(PYTHON) tools/environment.py --tag main))$(TAG)
MAIN = .venv/$(TAG)/bin
PEERS = .venv/$(TAG)-peers/bin
CONFORMANCE = .venv/$(TAG)-conformance/bin
CARGO_HERE = PYO3_PYTHON='$(CURDIR)/$(MAIN)/python' cargo

.PHONY: help
help:
	@echo 'make demo          fetch 1,000 URLs with greenlets and with threads, and compare'
	@echo 'make test          test the crates, then the package'
	@echo 'make test-matrix   the same on every supported Python this machine has'
	@echo 'make test-poll     test the package over poll(2) instead of epoll(7)'
	@echo 'make pythons       unpack CPython 3.14 and 3.15 into build/ (Debian packages)'
	@echo 'make test-aarch64  the crates and greenlets on emulated AArch64'
	@echo 'make test-valgrind the tests of stacks and greenlets, every memory access checked'
	@echo 'make lint          formatting, clippy, ruff, mypy, stubs, dependency rule'
	@echo 'make bench         measure greenloop against its peers'
	@echo 'make conformance   run our tests on the real gevent and greenlet, and theirs on greenloop'
	@echo 'make conformance-greenlet   of that, only the tests of greenlet on greenloop'
	@echo 'make conformance-gevent     of that, only the tests of gevent on greenloop'
	@echo 'make clean         remove everything that make made'
	@echo 'PYTHON=python3.13 chooses the interpreter.'

# --- set-up ---

.PHONY: environment installed
environment:
	@$(SETUP) main

installed:
	@$(SETUP) --greenloop main

# --- use ---

.PHONY: demo bench
demo: installed
	$(MAIN)/python demo/run.py $(DEMO_FLAGS)

bench:
	@$(SETUP) --greenloop peers
	@mkdir -p build
	$(PEERS)/python benches/run.py --json build/bench-$(TAG).json \
		--svg build/bench-$(TAG).svg $(BENCH_FLAGS)

# --- tests ---

.PHONY: test test-rust test-python test-poll test-matrix test-aarch64 conformance conformance-greenlet conformance-gevent
test: test-rust test-python

# The crate python is a part of the interpreter's process and is tested from Python.
test-rust:
	cargo test $(CARGO_FLAGS) --workspace --exclude greenloop-python

test-python: installed services
	$(MAIN)/python -m pytest $(PYTEST_FLAGS)

# The package over the portable backend.
test-poll:
	GREENLOOP_LOOP=poll $(MAKE) --no-print-directory test-python

# Programs that tests start, from Debian's packages where they are missing.
.PHONY: services
services:
	@$(PYTHON) tools/services.py

# What the machine may lack: from Debian's packages, into build/.
.PHONY: pythons
pythons:
	@$(PYTHON) tools/debian_pythons.py 3.14 3.15

test-matrix: test-rust
	@pythons=$$($(PYTHON) tools/pythons.py) || exit 1; \
	for python in $$pythons; do \
		echo "== $$python"; \
		$(MAKE) --no-print-directory test-python PYTHON="$$python" || exit 1; \
	done

# For PYTEST_FLAGS as above, and AARCH64_FLAGS='--python 3.14'.
test-aarch64:
	$(PYTHON) tools/aarch64.py $(AARCH64_FLAGS) $(PYTEST_FLAGS)

# A test of documented behaviour has to pass on the packages whose behaviour that is.
conformance: conformance-greenlet conformance-gevent
	@$(SETUP) peers
	GREENLOOP_TEST_PEER=1 $(PEERS)/python -m pytest $(PYTEST_FLAGS) tests/api tests/capi tests/greenlet tests/test_docs.py

# The tests of the greenlet package, unmodified, have to pass on greenloop. Takes some minutes.
# CONFORMANCE_FLAGS: modules to run, for example CONFORMANCE_FLAGS=test_leaks
conformance-greenlet:
	@$(SETUP) --greenloop conformance
	$(CONFORMANCE)/python tools/conformance_greenlet.py $(CONFORMANCE_FLAGS)

# So have those of gevent. Takes some minutes.
conformance-gevent:
	@$(SETUP) --greenloop conformance
	$(CONFORMANCE)/python tools/conformance_gevent.py $(CONFORMANCE_FLAGS)

# Stacks that are swapped and copied tell valgrind so (crates/stack/src/valgrind.rs). What it finds
# fails the target. Processes that tests start are not watched. tests/memory.rs and tests/overflow.rs
# are about what valgrind takes over itself, memory given back and faults.
VALGRIND = valgrind -q --error-exitcode=99 --num-callers=30 --suppressions=$(CURDIR)/tools/valgrind.supp
VALGRIND_TESTS ?= tests/greenlet tests/sync

.PHONY: test-valgrind
test-valgrind: installed
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12) and "CPython 3.11 has findings of its own: PYTHON=python3.12 or later")'
	PROPTEST_CASES=25 cargo test $(CARGO_FLAGS) --config "target.'cfg(unix)'.runner='$(VALGRIND)'" \
		-p greenloop-stack --lib --test model --test sharing --test switching
	PYTHONMALLOC=malloc $(VALGRIND) $(MAIN)/python -m pytest -o timeout=900 \
		--ignore tests/greenlet/test_greenlet_stack.py \
		--ignore tests/greenlet/test_greenlet_recursion.py $(PYTEST_FLAGS) $(VALGRIND_TESTS)

# --- checks ---

.PHONY: lint lint-once lint-version
lint: lint-once lint-version

# What does not depend on the Python version.
lint-once: environment
	cargo fmt --all --check
	$(MAIN)/ruff check .
	$(MAIN)/ruff format --check .
	$(MAIN)/python tools/check_dependencies.py
	$(MAIN)/python tools/check_versions.py

# The code for each CPython is compiled for it alone, and stubs are compared with what was built.
lint-version: installed
	$(CARGO_HERE) clippy $(CARGO_FLAGS) --workspace --all-targets --target-dir target/$(TAG) -- -D warnings
	$(MAIN)/mypy --python-executable $(MAIN)/python python/greenloop tools benches demo tests/tools
	$(MAIN)/python -m mypy.stubtest --concise --ignore-disjoint-bases \
		--allowlist tools/stubtest-allowlist.txt --ignore-unused-allowlist greenloop._core

# ---

.PHONY: clean
clean:
	rm -rf .venv target build .mypy_cache .pytest_cache .ruff_cache
	rm -f python/greenloop/_core.*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
