"""Paths that things are written to."""

import os
import re

# Of two letters or more, unlike a drive; a `Path` has one slash only.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(name, path):
    """The argument `name` as a str; ValueError if it is a URL.

    It would be taken for a folder of that name in the working directory.
    """
    path = os.fspath(path)
    if _URL.match(path):
        raise ValueError(
            f"`{name}` must be a local or mounted path. Received: {name}={path!r}"
        )
    return path
