"""Folders and files of runs: writable, of one configuration, whole or not there."""

import contextlib
import json
import os
import shutil

from recipes.common import SettingError

CONFIG = "config.json"


def make_writable(path, flag="workdir"):
    """Makes a folder where it is missing.

    Args:
        path: `Path`.
        flag: str, which flag named it.

    Raises:
        SettingError: it cannot be made or written to.
    """
    probe = path / f".{CONFIG}.probe"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        rule = f"be a folder that can be written ({error.strerror})"
        raise SettingError(flag, rule, path) from error


@contextlib.contextmanager
def new_file(path, opened=open):
    """A text file for `--output` that is there once all of it is written.

    Args:
        path: `Path`; its folder is made where it is missing.
        opened: `open` or `gzip.open`.

    Raises:
        SettingError: it is a folder, or cannot be written.
    """
    if path.is_dir():
        raise SettingError("output", "name a file, not a folder", path)
    make_writable(path.parent, "output")
    with whole_file(path, opened) as file:
        yield file


def keep_config(path, config):
    """Writes a folder's `config.json`, or checks the one that is there.

    Args:
        path: `Path` of the folder.
        config: dict for JSON, all that decides what is computed there.

    Raises:
        SettingError: the folder has another configuration.
    """
    config = json.loads(json.dumps(config))  # as it will be read: no tuples
    file = path / CONFIG
    if file.exists():
        _check_same(path, _read(file), config)
    else:
        write_whole(file, json.dumps(config, indent=2) + "\n")


def differing_keys(one, other):
    """Sorted keys in which two configurations differ."""
    keys = sorted(one.keys() | other.keys())
    return [k for k in keys if one.get(k) != other.get(k)]


@contextlib.contextmanager
def whole_file(path, opened=open):
    """A text file that is written as a whole or not at all; as of `new_file`."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    with opened(unfinished, "wt", encoding="utf-8", newline="") as file:
        yield file
    os.replace(unfinished, path)


def write_whole(path, text):
    """Writes a text file as a whole or not at all."""
    with whole_file(path) as file:
        file.write(text)


def read_json_lines(path, key):
    """The records of a file of JSON lines, those left out that were cut off.

    Args:
        path: `Path`, need not exist.
        key: str that a record must have.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # cut off when a computer went down: what it told is done again
        if isinstance(record, dict) and key in record:
            records.append(record)
    return records


def write_json_lines(path, records):
    """Writes the file as a whole, so that a line that was cut off goes."""
    write_whole(path, "".join(json.dumps(record) + "\n" for record in records))


def remove(path):
    """Removes a file or folder where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read(file):
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _check_same(path, found, config):
    if found == config:
        return
    remedy = "Choose another folder, or pass --overwrite to throw those runs away"
    if not isinstance(found, dict):
        rule = f"hold a {CONFIG} that can be read. {remedy}"
    else:
        names = "; ".join(
            f"{k} is {found.get(k)} there and {config.get(k)} here"
            for k in differing_keys(found, config)
        )
        rule = f"hold no runs of other settings, but {names}. {remedy}"
    raise SettingError("workdir", rule, path)
