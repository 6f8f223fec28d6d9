# Two commands do it all on a fresh machine: `make demo` and `make test`.
# PYTHON=... uses that interpreter's environment instead of a new .venv; a torch that imports is never replaced.
VENV ?= .venv
PYTHON ?= $(VENV)/bin/python
PIP = $(PYTHON) -m pip install --quiet --disable-pip-version-check
CLANG_FORMAT = $(PYTHON) -c 'import clang_format, sys; sys.exit(clang_format.clang_format())'
STAMPS = build/stamps/$(subst /,_,$(PYTHON))
NATIVE = $(wildcard csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu csrc/*/*.cuh cmake/*) CMakeLists.txt setup.py pyproject.toml
CXX_SOURCES = $(wildcard csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu csrc/*/*.cuh tests/csrc/*.cpp tests/csrc/*.h)
SANITIZE = build/sanitize
SIMT = build/simt

.PHONY: help demo test lint format test-cpp test-python build build-simt bench clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(STAMPS)/demo  ## masks on a real photo with the bundled model, COCO results beside it
	$(PYTHON) -m yolact.cli demo

test: lint test-cpp test-python  ## everything: lint, C++ tests under sanitizers, pytest

lint: $(STAMPS)/dev  ## ruff, mypy, clang-format
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(CLANG_FORMAT) --dry-run -Werror $(CXX_SOURCES)

format: $(STAMPS)/dev  ## let the tools lay out the sources
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	$(CLANG_FORMAT) -i $(CXX_SOURCES)

test-cpp: $(STAMPS)/dev  ## the kernels as plain executables under AddressSanitizer and UBSan
	$(PYTHON) -m cmake -S . -B $(SANITIZE) -DYOLACT_TESTS=ON -DYOLACT_SANITIZE=ON -DYOLACT_WERROR=ON
	$(PYTHON) -m cmake --build $(SANITIZE) --parallel
	CTEST_OUTPUT_ON_FAILURE=1 $(PYTHON) -m cmake --build $(SANITIZE) --target test

# Threads that wait give their core up: on a machine with other work that is many times as fast.
test-python: build-simt  ## pytest
	OMP_WAIT_POLICY=PASSIVE $(PYTHON) -m pytest

build-simt: $(STAMPS)/dev  ## the CUDA kernels for the CPU, as operators, for the tests
	$(PYTHON) -m cmake -S . -B $(SIMT) -DYOLACT_SIMT=ON -DYOLACT_WERROR=ON -DYOLACT_OUTPUT_DIR=$(CURDIR)/$(SIMT)/lib \
	  -DYOLACT_TORCH_DIR=$$($(PYTHON) -c 'import torch, os; print(os.path.dirname(torch.__file__))')
	$(PYTHON) -m cmake --build $(SIMT) --parallel

build: $(STAMPS)/dev  ## compile the native parts again, in place
	$(PYTHON) setup.py -q build_ext --inplace

bench: $(STAMPS)/dev  ## every operator beside its peers, on this machine
	$(PYTHON) -m benchmarks.kernels

# Where the interpreter went away, so did what the stamps tell of.
ifeq ($(shell command -v $(PYTHON)),)
$(shell rm -rf $(STAMPS))
endif

$(STAMPS)/torch:
	command -v $(PYTHON) >/dev/null || python3 -m venv $(VENV)
	$(PYTHON) -c "import torch" 2>/dev/null || $(PIP) -c constraints.txt torch
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/demo: $(STAMPS)/torch $(NATIVE)
	$(PIP) -e ".[demo]"
	@touch $@

$(STAMPS)/dev: $(STAMPS)/torch $(NATIVE)
	$(PIP) -e ".[dev]"
	@touch $@

clean:  ## remove what was built
	rm -rf build dist yolact/*.so yolact/_build_info.json *.egg-info
