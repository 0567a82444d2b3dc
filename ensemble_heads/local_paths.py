"""Paths that things are written to."""

import os


def local_path(name, path):
    """The argument `name` as a str; ValueError if it is a URL.

    It would be taken for a folder of that name in the working directory.
    """
    path = os.fspath(path)
    if "://" in path:
        raise ValueError(
            f"`{name}` must be a local or mounted path. Received: {name}={path!r}"
        )
    return path
