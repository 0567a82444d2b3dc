"""A folder of runs that can be gone on with: what is finished is not done again."""

import json
import os
import shutil
from pathlib import Path

from recipes.common import SettingError

CONFIG = "config.json"
RESULTS = "results.jsonl"
MODELS = "models"


class Workdir:
    """The runs of one recipe under one set of settings.

    Holds `config.json` (the settings), `results.jsonl` (a line per finished run) and
    `models/<key>.keras`. A run counts as finished when its line and its model are
    there; the line comes last.

    Args:
        path: str or path, made where it is missing.
        config: dict for JSON, all that decides what a run gives. Another one in the
            folder is an error.
        overwrite: bool, remove what earlier runs left, and nothing else.
        artifacts: names of further files and folders that the recipe writes there.

    Attributes:
        path: `Path`.
        records: {key: dict}, what `add` was given by this and earlier calls.

    Raises:
        SettingError: a folder that cannot be written, or with runs of other settings.
    """

    def __init__(self, path, config, overwrite=False, artifacts=()):
        self.path = Path(path)
        self._make_writable()
        if overwrite:
            for name in (CONFIG, RESULTS, MODELS, *artifacts):
                _remove(self.path / name)
        config = json.loads(json.dumps(config))  # as it will be read: no tuples
        self._check_config(config)
        self._write(CONFIG, json.dumps(config, indent=2) + "\n")
        (self.path / MODELS).mkdir(exist_ok=True)
        self.records = self._read_records()

    def model_path(self, key):
        """Where the model of a run belongs."""
        return self.path / MODELS / f"{key}.keras"

    def is_finished(self, key):
        """Whether a run is there, with its model."""
        return key in self.records and self.model_path(key).exists()

    def add(self, key, record, model):
        """Keeps a finished run.

        Args:
            key: str, names the run; part of file names.
            record: dict for JSON.
            model: `keras.Model`.
        """
        path = self.model_path(key)
        unfinished = path.with_name(f"unfinished-{path.name}")
        model.save(unfinished)
        os.replace(unfinished, path)
        self.records[key] = record = {"run": key, **record}
        # The file as a whole, so that a line that was cut off in the middle goes.
        lines = [json.dumps(one) for one in self.records.values()]
        self._write(RESULTS, "\n".join(lines) + "\n")

    def remove(self, name):
        """Removes a file or folder of the recipe's where there is one."""
        _remove(self.path / name)

    def _make_writable(self):
        probe = self.path / f".{CONFIG}.probe"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            rule = f"be a folder that can be written ({error.strerror})"
            raise SettingError("workdir", rule, self.path) from error

    def _check_config(self, config):
        path = self.path / CONFIG
        if not path.exists():
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found == config:
            return
        remedy = "Choose another folder, or pass --overwrite to throw those runs away"
        if not isinstance(found, dict):
            rule = f"hold a {CONFIG} that can be read. {remedy}"
        else:
            keys = sorted(found.keys() | config.keys())
            there = [k for k in keys if found.get(k) != config.get(k)]
            names = "; ".join(
                f"{k} is {found.get(k)} there and {config.get(k)} here" for k in there
            )
            rule = f"hold no runs of other settings, but {names}. {remedy}"
        raise SettingError("workdir", rule, self.path)

    def _read_records(self):
        path = self.path / RESULTS
        records = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            try:
                record = json.loads(line)
                records[record["run"]] = record
            except (ValueError, KeyError, TypeError):
                continue  # cut off when a computer went down: that run is done again
        return records

    def _write(self, name, text):
        """Writes a file as a whole or not at all."""
        unfinished = self.path / f".{name}.unfinished"
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, self.path / name)


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
