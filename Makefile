# Two commands do it all on a fresh machine: `make demo` and `make test`.
VENV ?= .venv
PYTHON ?= $(VENV)/bin/python

.PHONY: build
build:  ## compile the native parts in place
	$(PYTHON) setup.py -q build_ext --inplace
