"""What a user's files and arguments can cause."""

from __future__ import annotations


class UserError(ValueError):
    """A fault of a file, a data set or an argument, told in one line; the command line prints it and exits with 2."""


class NotEncodable(UserError):
    """A picture or video that the format of its file cannot hold; others it may."""
