"""Mutation tests of the CUDA kernels: `python -m tests.mutants`, or `make mutants`."""
