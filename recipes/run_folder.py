"""The folder of one long run: what it is, how far it came, what it gave."""

import csv
import json
from pathlib import Path

from recipes import folders

LOG = "metrics.jsonl"
LOG_CSV = "metrics.csv"
RESULT = "result.json"
CHECKPOINTS = "checkpoints"
CHOSEN = "chosen"
TENSORBOARD = "tensorboard"
ANALYSES = "analyses"
EVALUATION = "evaluation.json"
OWN = (folders.CONFIG, LOG, LOG_CSV, RESULT, EVALUATION)
OWN += (CHECKPOINTS, CHOSEN, TENSORBOARD, ANALYSES)


class RunFolder:
    """One training run on disk.

    Holds `config.json` (as run), `checkpoints/`, `metrics.jsonl` and the same as
    `metrics.csv` (a record per logged step), `tensorboard/`, where there are held-out
    data `chosen/` (the checkpoint that did best on them), once the run is finished
    `result.json`, and once it is evaluated or analysed by command `evaluation.json` or
    `analyses/`.

    Args:
        path: str or path, made where it is missing.
        config: dict for JSON, all that decides what the run gives; None reads a
            folder that must be there.
        overwrite: bool, remove what an earlier run left, and nothing else.
        writes: bool, whether files are written; False for all workers but the chief,
            which keep their log in memory.

    Attributes:
        path: `Path`.
        log: list of dict, each with the "step" after which it was taken.

    Raises:
        SettingError: a folder that cannot be written, or of a run that has begun under
            another configuration.
    """

    def __init__(self, path, config=None, overwrite=False, writes=True):
        self.path, self.writes = Path(path), writes
        if config is not None and writes:
            folders.make_writable(self.path)
            # A flag that was wrong must not bind the folder before a step is made.
            if overwrite or not self._has_begun():
                for name in OWN:
                    folders.remove(self.path / name)
            folders.keep_config(self.path, config)
        self.log = folders.read_json_lines(self.path / LOG, "step")

    @property
    def checkpoints(self):
        return self.path / CHECKPOINTS

    @property
    def chosen(self):
        return self.path / CHOSEN

    @property
    def tensorboard(self):
        return self.path / TENSORBOARD

    @property
    def analyses(self):
        return self.path / ANALYSES

    def result(self):
        """What `finish` was given, or None."""
        path = self.path / RESULT
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def forget_after(self, step):
        """Drops what was logged after a step: it will be done again."""
        self.log = [record for record in self.log if record["step"] <= step]
        self._write_log()

    def add(self, record):
        """Logs a dict for JSON that has a "step"."""
        self.log.append(record)
        self._write_log()

    def finish(self, result):
        """Marks the run as finished with a dict for JSON."""
        if not self.writes:
            return
        text = json.dumps(result, indent=2) + "\n"
        folders.write_whole(self.path / RESULT, text)

    def _has_begun(self):
        """Whether it holds anything that other settings would be mixed with."""
        kept = (RESULT, CHECKPOINTS, CHOSEN, ANALYSES)
        begun = any((self.path / name).exists() for name in kept)
        return begun or bool(folders.read_json_lines(self.path / LOG, "step"))

    def _write_log(self):
        if not self.writes:
            return
        folders.write_json_lines(self.path / LOG, self.log)
        columns = list(dict.fromkeys(key for record in self.log for key in record))
        with folders.whole_file(self.path / LOG_CSV) as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.log)
