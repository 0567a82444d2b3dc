"""Which files: globs, ranges of names, file systems far away, the paper's split."""

import os
import re

import tensorflow as tf

from ensemble_heads import provenance

# File systems that tensorflow-io brings, which exists for TensorFlow 2.15 only.
_EXTRA = ("http://", "https://", "s3://")
_UNLISTABLE = ("http://", "https://")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_NUMBERED = re.compile(r"(.*)-(\d+)-of-(\d+)(.*)")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def prefix(data_dir):
    """What stands before the names of files in a folder; "" for None.

    `~` is taken for the home folder.
    """
    if data_dir is None:
        return ""
    return os.path.expanduser(str(data_dir)).rstrip("/\\") + "/"


def literal(path):
    """The glob that matches a path alone, whichever characters it has."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def named(files, data_dir):
    """Paths of the files that a user names, sorted by name, each once.

    Args:
        files: path, glob, range or list of such, below `data_dir` if that is given.
        data_dir: folder, URL or None.

    Returns:
        List of str.

    Raises:
        FileNotFoundError: one of them matches nothing, or is not there.
    """
    files = [files] if isinstance(files, (str, os.PathLike)) else files
    folder = prefix(data_dir)
    found = []
    for one in files:
        pattern = literal(folder) + os.path.expanduser(str(one))
        matches = expand(pattern)
        if not matches:
            raise FileNotFoundError(
                f"`files` must exist. Received: {pattern!r}, where no file matches"
            )
        found += matches
    found = _in_order(found)
    check_exist(found)
    return found


def expand(patterns):
    """Paths that match, sorted by name and without duplicates.

    Args:
        patterns: str or list of str: paths; globs with `*`, `?` and `[…]`; and ranges
            of numbers such as `train{0000..3843}.tfrecord`, which need no listing of
            a folder and so also work over http.

    Returns:
        List of str. Empty where nothing matches.

    Raises:
        ImportError: a file system that this TensorFlow line does not have.
        ValueError: a glob where nothing can be listed.
    """
    patterns = [patterns] if isinstance(patterns, str) else [str(p) for p in patterns]
    found = []
    for pattern in patterns:
        register_file_system(pattern)
        for path in _ranges(pattern):
            if not re.search(r"[*?\[]", path):
                found.append(path)
            elif not can_list(path):
                raise ValueError(
                    "`files` must be paths or ranges over http, where no folder can be "
                    f"listed: {path.split('*')[0]}{{0000..3843}}.tfrecord. "
                    f"Received: files={path!r}"
                )
            else:
                found.extend(tf.io.gfile.glob(path))
    return _in_order(found)


def register_file_system(path):
    """Loads tensorflow-io if a path needs it.

    Raises:
        ImportError: this TensorFlow line has no tensorflow-io.
    """
    if not path.startswith(_EXTRA):
        return
    scheme, line = path.partition("://")[0], provenance.tensorflow_line()
    if line != "2.15":
        raise ImportError(
            f"Reading {scheme}:// needs tensorflow-io, which exists for TensorFlow "
            "2.15 only. Use that line (Python 3.10 or 3.11), copy the files to a local "
            "disk or to gs://, or mount the bucket as a folder. "
            f"Received: {path!r} on TensorFlow {line}"
        )
    try:
        import tensorflow_io  # noqa: F401  (registers the file systems)
    except ImportError as error:
        raise ImportError(
            f"Reading {scheme}:// needs tensorflow-io: pip install "
            f"tensorflow-io==0.36.0. Received: {path!r}"
        ) from error


def can_list(folder):
    """Whether the files of a folder can be listed there."""
    return not folder.startswith(_UNLISTABLE)


def is_local(path):
    """Whether a path lies in this machine's own file system."""
    return "://" not in path


def check_exist(paths):
    """Raises `FileNotFoundError` where a local file is missing, naming the first.

    A look at every file far away would take long; reading names them as well.
    """
    missing = [p for p in paths if is_local(p) and not tf.io.gfile.exists(p)]
    if missing:
        raise FileNotFoundError(
            f"`files` must exist. Received: {missing[0]!r}, which is not there"
            + (f", nor are {len(missing) - 1} others" if len(missing) > 1 else "")
        )


def check_not_empty(paths):
    """Raises `ValueError` where all files are local and none has a byte.

    An empty shard among others is a small data set's; nothing but those is a mistake.
    """
    if all(is_local(p) and not tf.io.gfile.stat(p).length for p in paths):
        raise ValueError(
            f"`files` must hold records. Received: {len(paths)} without any, such as "
            f"{paths[0]}"
        )


def check_one_set(paths):
    """Refuses files of a folder that are not one set, where names say "of 128".

    Names without such a count may be any number of files, but not beside such a set.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: there is more than one set, which would be read one after the other.
    """
    sets, others = {}, []
    for path in paths:
        name = base_name(path)  # a folder may be called so too
        if parts := _NUMBERED.fullmatch(name):
            before, number, count, after = parts.groups()
            start = path.removesuffix(name) + before
            sets.setdefault((start, count, after), set()).add(int(number))
        else:
            others.append(path)
    for (start, count, after), numbers in sets.items():
        missing = sorted(set(range(int(count))) - numbers)
        if missing:
            first = f"{start}-{missing[0]:0{len(count)}d}-of-{count}{after}"
            raise FileNotFoundError(
                f"`data_dir` must hold all {int(count)} shards of a set, or `files` "
                f"name those to read. Received: {len(missing)} that are missing, the "
                f"first {first}"
            )
    found = [f"{start}-*-of-{count}{after}" for start, count, after in sets]
    if len(found) > 1 or (found and others):
        raise ValueError(
            "`data_dir` must hold one set of shards, or `files` name those to read. "
            f"Received: {', '.join(found + others[:1])}"
        )


def base_name(path):
    """A path's last part, whichever folder or bucket it lies in."""
    return re.split(r"[/\\]", path)[-1]


def in_paper_eval(path):
    """Whether a validate shard belongs to the paper's evaluation tenth.

    It does if the number in its name can be divided by 10: validate0000, validate0010,
    …, 385 of the 3844. Names that count with letters are read in base 62. So a shard
    stays on its side wherever it lies and whichever others are there.
    """
    stem = base_name(path).partition(".")[0].removeprefix("validate")
    if not stem or not all(one in _DIGITS for one in stem):
        raise ValueError(
            "`files` of the paper's split must have names such as "
            f"validate0000.tfrecord, to split by. Received: {path!r}"
        )
    base = 10 if stem.isdecimal() else len(_DIGITS)
    number = 0
    for one in stem:
        number = number * base + _DIGITS.index(one)
    return number % 10 == 0


def _in_order(paths):
    """The paths sorted by name, each once."""
    return sorted(dict.fromkeys(paths), key=lambda path: (base_name(path), path))


def _ranges(pattern):
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = found.groups()
    numbers = range(int(first), int(last) + 1)
    parts = (pattern[: found.start()], pattern[found.end() :])
    names = [f"{parts[0]}{number:0{len(first)}d}{parts[1]}" for number in numbers]
    return [path for name in names for path in _ranges(name)]
