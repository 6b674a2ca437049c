# Every target sets up what it needs: a virtual environment in .venv/ with greenloop installed in
# it, built from the sources as they are. A second run repeats only what has changed since.
#
# PYTHON chooses the interpreter. Each has its environment and its wheel to itself, so targets for
# several versions can be run side by side:  make test PYTHON=python3.13

PYTHON ?= python3
# For every call of cargo; continuous integration says --locked here.
CARGO_FLAGS ?=
# For pytest, benches/run.py and demo/run.py:  make test PYTEST_FLAGS='-k timeout -x'
PYTEST_FLAGS ?=
# Tests run in this many processes at a time (`auto`: as many as there are cores), but in one if
# PYTEST_FLAGS names files. For those flags that need a terminal, as --pdb:  TEST_WORKERS=1
TEST_WORKERS ?= auto
# Parts of the tests to leave out: directories of tests/.
TEST_WITHOUT ?=
# So many tests of a part may fail at first and pass when they are run once more.
TEST_AGAIN ?= 0
BENCH_FLAGS ?=
DEMO_FLAGS ?=
CONFORMANCE_FLAGS ?=
AARCH64_FLAGS ?=
SOAK_FLAGS ?=

SETUP = $(PYTHON) tools/environment.py --cargo-flags='$(CARGO_FLAGS)'
# Asked for once, and only by targets that need it.
TAG = $(eval TAG := $$(shell $(PYTHON) tools/environment.py --tag main))$(TAG)
MAIN = .venv/$(TAG)/bin
PEERS = .venv/$(TAG)-peers/bin
SERVERS = .venv/$(TAG)-servers/bin
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
	@echo 'make bench-http    measure its HTTP server against others'
	@echo 'make bench-asyncio measure its event loop against asyncio, uvloop and rloop'
	@echo 'make conformance   run our tests on the real gevent and greenlet, and theirs on greenloop'
	@echo 'make conformance-greenlet   of that, only the tests of greenlet on greenloop'
	@echo 'make conformance-gevent     of that, only the tests of gevent on greenloop'
	@echo 'make conformance-http       malformed requests, to our server and to others'
	@echo 'make conformance-asyncio    the tests of asyncio and uvloop on our event loop'
	@echo 'make fuzz          random input for the parsers'
	@echo 'make fuzz-corpus   keep what that has found'
	@echo 'make conformance-stdlib     the tests of the standard library after patch_all()'
	@echo 'make soak          servers and clients for half an hour, with kills: does anything grow?'
	@echo 'make clean         remove everything that make made'
	@echo 'PYTHON=python3.13 chooses the interpreter.'

# --- set-up ---

.PHONY: environment installed
environment:
	@$(SETUP) main

installed:
	@$(SETUP) --greenloop main

# --- use ---

.PHONY: demo bench bench-http bench-asyncio native-benches
demo: installed
	$(MAIN)/python demo/run.py $(DEMO_FLAGS)

bench: native-benches
	@$(SETUP) --greenloop peers
	@mkdir -p build
	$(PEERS)/python benches/run.py --json build/bench-$(TAG).json \
		--svg build/bench-$(TAG).svg $(BENCH_FLAGS)

# HTTP servers. bjoern is built with libev, which it finds where the first line has unpacked it.
HTTP_BENCH = $(CURDIR)/build/http-bench
bench-http:
	@$(PYTHON) tools/http_bench.py
	@C_INCLUDE_PATH='$(HTTP_BENCH)/usr/include' LIBRARY_PATH='$(HTTP_BENCH)/libraries' \
		LDFLAGS='-Wl,-rpath,$(HTTP_BENCH)/libraries' $(SETUP) --greenloop servers
	@mkdir -p build
	$(SERVERS)/python benches/run.py --suite http --json build/bench-http-$(TAG).json \
		--svg build/bench-http-$(TAG).svg $(BENCH_FLAGS)

# Event loops of asyncio's kind.
bench-asyncio: native-benches
	@$(SETUP) --greenloop peers
	@mkdir -p build
	$(PEERS)/python benches/run.py --suite asyncio --json build/bench-asyncio-$(TAG).json \
		--svg build/bench-asyncio-$(TAG).svg $(BENCH_FLAGS)

# What benchmarks compare servers with and load them with: no part of greenloop, nor of its workspace.
NATIVE_BENCHES = --manifest-path benches/native/Cargo.toml --target-dir target/benches
native-benches:
	cargo build -q --release $(CARGO_FLAGS) $(NATIVE_BENCHES)

# --- tests ---

.PHONY: test test-rust test-python test-poll test-matrix test-aarch64 conformance conformance-greenlet conformance-gevent conformance-http conformance-stdlib conformance-asyncio
test: test-rust test-python

# The crate python is a part of the interpreter's process and is tested from Python.
test-rust:
	cargo test $(CARGO_FLAGS) --workspace --exclude greenloop-python

test-python: installed services native-benches
	$(MAIN)/python tools/run_tests.py --workers $(TEST_WORKERS) \
		--again $(TEST_AGAIN) $(TEST_WITHOUT:%=--without %) -- $(PYTEST_FLAGS)

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

# The tests of the standard library that comes with the interpreter, unmodified, after patch_all().
# Takes an hour or so.
conformance-stdlib:
	@$(SETUP) --greenloop conformance
	$(CONFORMANCE)/python tools/conformance_stdlib.py $(CONFORMANCE_FLAGS)

# CPython's tests of asyncio and uvloop's own tests, on greenloop's event loop. Takes half an hour or so.
conformance-asyncio:
	@$(SETUP) --greenloop conformance
	$(CONFORMANCE)/python tools/conformance_asyncio.py $(CONFORMANCE_FLAGS)

# What HTTP servers make of malformed and ambiguous requests, others beside greenloop's.
conformance-http:
	@$(SETUP) --greenloop main
	@$(SETUP) peers
	$(MAIN)/python tools/conformance_http.py --peers $(PEERS)/python $(CONFORMANCE_FLAGS)

# Random input for the parts that read what strangers send. Needs cargo-fuzz and a nightly Rust.
# FUZZ_SECONDS: for each target.
FUZZ_SECONDS ?= 3600
FUZZ_TARGETS = requests chunks responses frames
.PHONY: fuzz fuzz-corpus
fuzz:
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p build/fuzz/$$target; \
		cargo +nightly fuzz run $$target build/fuzz/$$target crates/*/tests/corpus/$$target \
			-- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

# Keeps what `make fuzz` has found in the repository, as far as it reaches code that nothing there
# does. The tests of the crates run it.
fuzz-corpus:
	@for target in $(FUZZ_TARGETS); do \
		cargo +nightly fuzz run $$target crates/*/tests/corpus/$$target build/fuzz/$$target \
			-- -set_cover_merge=1 -use_counters=0 || exit 1; \
	done

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

# For example SOAK_FLAGS='--minutes 5 --seed 1'.
.PHONY: soak
soak: installed
	$(MAIN)/python tools/soak.py $(SOAK_FLAGS)

# --- checks ---

.PHONY: lint lint-once lint-version
lint: lint-once lint-version

# What does not depend on the Python version.
lint-once: environment
	cargo fmt --all --check
	cargo fmt --manifest-path benches/native/Cargo.toml --check
	cargo clippy -q --release $(CARGO_FLAGS) $(NATIVE_BENCHES) -- -D warnings
	$(MAIN)/ruff check .
	$(MAIN)/ruff format --check .
	$(MAIN)/python tools/check_dependencies.py
	$(MAIN)/python tools/check_versions.py

# The code for each CPython is compiled for it alone, and stubs are compared with what was built.
lint-version: installed
	$(CARGO_HERE) clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	$(MAIN)/mypy --python-executable $(MAIN)/python python/greenloop tools benches demo tests/tools
	$(MAIN)/python -m mypy.stubtest --concise --ignore-disjoint-bases \
		--allowlist tools/stubtest-allowlist.txt --ignore-unused-allowlist greenloop._core

# ---

.PHONY: clean
clean:
	rm -rf .venv target build .mypy_cache .pytest_cache .ruff_cache
	rm -f python/greenloop/_core.*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
