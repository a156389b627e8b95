# From a fresh clone, with Python 3.11 or newer and a C compiler: `make demo`, `make test`.
# Everything happens in $(VENV), which is made when it is missing.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
PYTEST = $(RUN) -m pytest

.PHONY: help demo test build lint types bench bench-all annotate asan tsan debug clean

help:
	@echo "demo      train on digits: progress, baseline, saved model and picture in demo-output/"
	@echo "test      build, and run the tests (ARGS='tests/test_ulp.py -x' for some of them)"
	@echo "build     rebuild the compiled modules that changed"
	@echo "lint      ruff, cython-lint, codespell"
	@echo "types     mypy, and stubs against the compiled modules"
	@echo "bench     the table against other libraries (ARGS='--smoke' for a quick one)"
	@echo "bench-all every benchmark, two hours (ARGS=NAME of the machine, or ARGS=--smoke)"
	@echo "annotate  HTML of the Cython sources: plain C is white, calls to Python are yellow"
	@echo "asan      the tests on a build with address and undefined-behaviour sanitizers"
	@echo "tsan      the team of threads under stress, with the thread sanitizer"
	@echo "debug     the tests on a build with bounds checks"
	@echo "clean     remove everything that was generated"

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is \
	needed; say which: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# What builds the package stays in the environment: with a new one for each build, as pip has it,
# Cython's own files would be newer than all that was generated, and everything compiled again.
$(VENV)/build-tools: pyproject.toml | $(RUN)
	$(RUN) -m pip install --quiet $$($(RUN) -c 'import tomllib; print(*(word.replace(" ", "") \
	for word in tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))')
	@touch $@

# One stamp for each set of extras that is installed beside the package itself.
$(VENV)/with-%: pyproject.toml setup.py $(VENV)/build-tools
	$(RUN) -m pip install --quiet --no-build-isolation --editable '.[$*]'
	@touch $@
$(VENV)/with-all: $(shell find src -name '*.py[xi]' -o -name '*.px[di]' -o -name '*.h')

demo: $(VENV)/with-all
	@mkdir -p demo-output
	$(VENV)/bin/dnncore train digits --out demo-output/digits.safetensors \
		--plot demo-output/digits.png

test: build
	$(PYTEST) $(ARGS)

build: $(VENV)/with-test
	$(RUN) setup.py --quiet build_ext --inplace

lint: $(VENV)/with-lint
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	PATH="$(abspath $(VENV))/bin:$$PATH" $(VENV)/bin/cython-lint src
	$(VENV)/bin/codespell

types: $(VENV)/with-lint build
	$(RUN) -m mypy
	$(RUN) -m mypy.stubtest --allowlist .ci/stubtest.txt dnncore._kernels dnncore._engine

bench: $(VENV)/with-bench build
	$(RUN) bench/versus.py $(ARGS)

bench-all: $(VENV)/with-bench build
	$(RUN) bench/all.py $(ARGS)

annotate: $(VENV)/with-test
	DNNCORE_ANNOTATE=1 $(RUN) setup.py --quiet build_ext --inplace
	@find build -name '*.html'

# Other builds stay in folders of their own, so that the one in use is not replaced.
SANITIZE = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

asan: $(VENV)/with-test
	CC=gcc CFLAGS="$(SANITIZE)" $(RUN) setup.py --quiet build --build-base build/asan \
		--build-lib build/asan/lib
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so):$$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	PYTHONPATH=$(CURDIR)/build/asan/lib $(PYTEST) --timeout=1200 $(ARGS)

tsan:
	@mkdir -p build/tsan
	gcc -O1 -g -fsanitize=thread -pthread -Isrc/dnncore tests/team_stress.c \
		-o build/tsan/team_stress -lm
	for seed in 1 2 3; do for threads in 2 3 8; do \
		build/tsan/team_stress $$seed 4 100 $$threads || exit; done; done

debug: $(VENV)/with-test
	DNNCORE_DEBUG=1 $(RUN) setup.py --quiet build --build-base build/debug \
		--build-lib build/debug/lib
	PYTHONPATH=$(CURDIR)/build/debug/lib $(PYTEST) --timeout=1200 $(ARGS)

clean:
	rm -rf build dist wheelhouse demo-output $(VENV) .hypothesis .pytest_cache .mypy_cache \
		.ruff_cache src/*.egg-info
	find src tests bench examples -name __pycache__ -prune -exec rm -rf {} +
	find src \( -name '*.so' -o -name '*.c' -o -name '*.html' -o -name _build_info.py \
		-o -name _blas_int.pxi \) -delete
