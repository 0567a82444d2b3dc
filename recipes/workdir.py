"""A folder of runs that can be gone on with: what is finished is not done again."""

import os
from pathlib import Path

from recipes import folders

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
        folders.make_writable(self.path)
        if overwrite:
            for name in (folders.CONFIG, RESULTS, MODELS, *artifacts):
                folders.remove(self.path / name)
        folders.keep_config(self.path, config)
        (self.path / MODELS).mkdir(exist_ok=True)
        records = folders.read_json_lines(self.path / RESULTS, "run")
        self.records = {record["run"]: record for record in records}

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
        folders.write_json_lines(self.path / RESULTS, self.records.values())

    def remove(self, name):
        """Removes a file or folder of the recipe's where there is one."""
        folders.remove(self.path / name)
