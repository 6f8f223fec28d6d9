"""The one error a user's files and arguments can cause."""

from __future__ import annotations


class UserError(ValueError):
    """A fault of a file, a data set or an argument, told in one line; the command line prints it and exits with 2."""
