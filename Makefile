# Two commands do it all on a fresh machine: `make demo` and `make test`.
# PYTHON=... uses that interpreter's environment instead of a new .venv; a torch that imports is never replaced.
VENV ?= .venv
PYTHON ?= $(VENV)/bin/python
PIP = $(PYTHON) -m pip install --quiet --disable-pip-version-check
CLANG_FORMAT = $(PYTHON) -c 'import clang_format, sys; sys.exit(clang_format.clang_format())'
STAMPS = build/stamps/$(subst /,_,$(PYTHON))
NATIVE = $(wildcard csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu csrc/*/*.cuh cmake/*) CMakeLists.txt setup.py pyproject.toml
PACKAGE = $(shell find yolact -type f -not -name '*.so' -not -name '*.pyc' -not -name _build_info.json)
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' yolact/__init__.py)
CXX_SOURCES = $(wildcard cmake/*.cpp csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu csrc/*/*.cuh tests/csrc/*.cpp tests/csrc/*.h tests/instructions/*.cpp tests/instructions/*.h examples/*/*.cpp)
SANITIZE = build/sanitize
SIMT = build/simt
WHEEL = build/wheel
TORCH_CUDA = build/venv-torch-2.11
INTEGRATION_TESTS = YOLACT_REQUIRE=integrations,$(YOLACT_REQUIRE) OMP_WAIT_POLICY=PASSIVE $(TORCH_CUDA)/bin/python -m pytest
TORCH_DIR = $$($(PYTHON) -c 'import torch, os; print(os.path.dirname(torch.__file__))')
RESULTS = benchmarks/results/$(shell date -u +%F)
JOBS := $(shell nproc)
HAS_NVCC := $(shell command -v $${CUDACXX:-nvcc})
WANTS_TORCH_CUDA := $(findstring torch-cuda,$(YOLACT_REQUIRE))
WANTS_BROWSER := $(findstring browser,$(YOLACT_REQUIRE))
WANTS_INTEGRATIONS := $(findstring integrations,$(YOLACT_REQUIRE))
PYTEST_NEEDS = $(if $(WANTS_BROWSER),browser) $(if $(WANTS_TORCH_CUDA),venv-torch-cuda) \
  $(if $(WANTS_INTEGRATIONS),test-integrations) build-simt $(if $(HAS_NVCC),wheel)
# Files side by side, up to four: a process takes a gigabyte or two. One at a time where they would share a GPU's memory.
PYTEST_JOBS := $(if $(shell command -v nvidia-smi),0,$(JOBS) --maxprocesses 4)
# Threads that wait give their core up: on a machine with other work that is many times as fast.
PYTEST = OMP_WAIT_POLICY=PASSIVE $(PYTHON) -m pytest --numprocesses $(PYTEST_JOBS) --dist loadfile \
  $(if $(WANTS_INTEGRATIONS),--ignore=tests/integrations)

.PHONY: help demo test lint format docs test-cpp test-python build build-simt wheel release-check venv-torch-cuda browser test-integrations test-integrations-newest bench bench-gpu instructions mutants clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(STAMPS)/demo  ## masks on a real photo with the bundled model, COCO results beside it
	$(PYTHON) -m yolact.cli demo

# Side by side, first what waits for the network or for one core; what takes all cores comes last. Then pytest alone.
test:  ## everything: lint, the site, C++ tests under sanitizers, pytest
	$(MAKE) --jobs=2 --output-sync=line lint docs $(PYTEST_NEEDS) test-cpp
	$(PYTEST)

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
	$(PYTHON) -m cmake --build $(SANITIZE) --parallel $(JOBS)
	CTEST_OUTPUT_ON_FAILURE=1 CTEST_PARALLEL_LEVEL=$(JOBS) $(PYTHON) -m cmake --build $(SANITIZE) --target test

docs: $(STAMPS)/dev  ## the site, into build/docs; a warning or a broken link is an error
	rm -rf build/docs
	$(PYTHON) -m sphinx --quiet --fail-on-warning --keep-going --builder html docs build/docs

test-python: $(PYTEST_NEEDS)  ## pytest
	$(PYTEST)

build-simt: $(STAMPS)/dev  ## the CUDA kernels for the CPU, as operators, for the tests
	$(PYTHON) -m cmake -S . -B $(SIMT) -DYOLACT_SIMT=ON -DYOLACT_WERROR=ON -DYOLACT_TORCH_DIR=$(TORCH_DIR) \
	  -DYOLACT_OUTPUT_DIR=$(CURDIR)/$(SIMT)/lib
	$(PYTHON) -m cmake --build $(SIMT) --parallel $(JOBS) --target _simt

wheel: $(WHEEL)/installed  ## the sdist and its wheel with CUDA kernels for every architecture, into dist/; what each kernel uses
	$(PYTHON) -m tools.kernel_table $(WHEEL)/yolact/_C.so

# Installed beside the tree, so that the tests take what is in the wheel, under one torch and another.
$(WHEEL)/installed: $(STAMPS)/dev $(NATIVE) $(PACKAGE) MANIFEST.in README.md tools/wheels.py
	$(PYTHON) -m tools.wheels
	rm -rf $(WHEEL)
	$(PIP) --no-deps --no-index --find-links dist --only-binary yolact --no-compile --target $(WHEEL) yolact==$(VERSION)
	@touch $@

release-check: $(STAMPS)/dev  ## whether what is in dist/ may be released (RELEASING.md)
	$(PYTHON) -m tools.release

browser:  ## Debian's Chromium without a window, for the tests of reports, where there is no browser; asks for root
	@for name in chromium-headless-shell chromium chromium-browser google-chrome; do \
	  if command -v $$name; then exit; fi; done; \
	apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install chromium-headless-shell

venv-torch-cuda: $(TORCH_CUDA)/installed  ## another environment with a CUDA build of torch: gigabytes, for the tests

$(TORCH_CUDA)/installed: constraints-torch-cuda.txt | $(STAMPS)/torch
	$(PYTHON) -m venv --clear $(TORCH_CUDA)
	$(TORCH_CUDA)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-torch-cuda.txt \
	  torch numpy opencv-python-headless pillow click tqdm
	@touch $@

test-integrations: $(STAMPS)/dev $(TORCH_CUDA)/integrations  ## yolact.integrations beside the libraries themselves, of pinned releases
	$(INTEGRATION_TESTS) tests/integrations
	PYTHONPATH=build/ultralytics-pinned $(INTEGRATION_TESTS) tests/integrations/test_ultralytics.py

test-integrations-newest: $(STAMPS)/dev $(TORCH_CUDA)/integrations  ## the same beside the newest releases
	$(TORCH_CUDA)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target build/integrations-newest ultralytics supervision mmdet rfdetr transformers tokenizers huggingface-hub timm
	PYTHONPATH=build/integrations-newest $(INTEGRATION_TESTS) tests/integrations

# Without dependencies: they would bring another OpenCV over the headless one. The list has them all.
$(TORCH_CUDA)/integrations: tests/integrations/requirements.txt $(TORCH_CUDA)/installed
	$(TORCH_CUDA)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	$(TORCH_CUDA)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target build/ultralytics-pinned ultralytics==8.4.190
	@touch $@

build: $(STAMPS)/dev  ## compile the native parts again, in place
	$(PYTHON) setup.py -q build_ext --inplace

# Not part of `make test`: it takes the better part of an hour. It goes on where it was stopped.
mutants: $(STAMPS)/dev  ## breaks the CUDA kernels in many small ways and sees that their tests notice
	$(PYTHON) -m tests.mutants

# About ten minutes on two quiet cores; then the README's tables and the plots are made of what was measured.
bench: $(STAMPS)/dev  ## operators and the whole way beside their peers, on this machine, into the README
	$(PYTHON) -m benchmarks.kernels --seconds 1.5 --json $(RESULTS)-kernels.json
	$(PYTHON) -m benchmarks.end_to_end --seconds 8 --json $(RESULTS)-end-to-end.json
	$(PYTHON) -m benchmarks.deform_conv2d --json $(RESULTS)-deform-conv2d.json
	$(PYTHON) -m benchmarks.growth --seconds 2 --json $(RESULTS)-growth.json
	$(PYTHON) -m benchmarks.readme
	$(PYTHON) -m benchmarks.plots

instructions: $(STAMPS)/dev  ## what the CPU kernels execute, beside the record; RECORD=1 writes it anew
	$(PYTHON) -m tests.instructions $(if $(RECORD),--record)

bench-gpu:  ## the tests, compute-sanitizer and the benchmarks that want a GPU, in under ten minutes
	PYTHON=$(PYTHON) benchmarks/gpu.sh

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
