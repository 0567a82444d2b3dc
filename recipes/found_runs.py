"""The runs that folders hold, whichever recipe made them."""

import dataclasses
import json
from pathlib import Path

from recipes import folders
from recipes.common import SettingError
from recipes.run_folder import RESULT


@dataclasses.dataclass(frozen=True)
class FoundRun:
    """What a run's folder says of it.

    Attributes:
        path: `Path` of the folder.
        config: dict, `config.json`.
        result: dict, `result.json`; None where the run is not finished.
    """

    path: Path
    config: dict
    result: dict | None

    @property
    def recipe(self):
        return self.config["recipe"]

    @property
    def method(self):
        return self.result["method"]


def as_configured(settings, config, but=()):
    """Settings with the values of a run's `config.json`, some left out.

    Args:
        settings: `Settings`.
        config: dict.
        but: names of settings that stay as they are.
    """
    own = {
        name: tuple(config[name]) if isinstance(config[name], list) else config[name]
        for name in settings.as_dict().keys() & config.keys() - set(but)
    }
    return settings.with_changes(**own)


def find_runs(roots):
    """List of `FoundRun` below some folders, in the order of their paths, each once.

    Args:
        roots: list of `Path`.

    Raises:
        SettingError: a folder that does not exist.
    """
    found, seen = [], set()
    for root in roots:
        if not root.is_dir():
            raise SettingError("runs", "be folders that exist", root)
        for file in sorted(root.rglob(folders.CONFIG)):
            if file.resolve() in seen:
                continue  # of a folder inside of another one
            seen.add(file.resolve())
            config = json.loads(file.read_text(encoding="utf-8"))
            if {"recipe", "model", "seed"} <= config.keys():
                found.append(_read(file.parent, config))
    return found


def _read(path, config):
    file = path / RESULT
    result = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return FoundRun(path, config, result)
