"""What is kept of finished runs beside the page of results.

Checkpoints and logs are large and belong to a machine. What the page is written from is
small: of every run `config.json` and `result.json`, of every workdir the plots that
`report` and `analyse` have drawn. These are copied to `<recipe>/<workdir>/` below the
folder of results, where they outlive the machine and can be read as runs themselves.
"""

import json
import shutil
from pathlib import Path

from recipes import common, folders
from recipes.common import SettingError
from recipes.found_runs import find_runs
from recipes.run_folder import ANALYSES, RESULT

SYNTHETIC = ("synthetic", "synthetic_videos")


def keep(roots, kept):
    """Copies what the page needs of the finished runs below some folders.

    A run that is kept already, with the same settings, is replaced; so are the plots
    of its workdir.

    Args:
        roots: list of `Path`.
        kept: `Path`, the folder of results.

    Returns:
        (list of the `FoundRun` that were copied, list of those left out since they are
        not finished or of synthetic data).

    Raises:
        SettingError: a folder that does not exist, two runs of one name, or a run
            whose name is that of a kept one with other settings or of more steps;
            nothing has been copied then.
    """
    found = find_runs(roots)
    finished = [run for run in found if _is_finished(run)]
    targets = [_workdir(run, kept) / run.path.name for run in finished]
    first = {}
    for run, target in zip(finished, targets):
        other = first.setdefault(target, run)
        if other is not run:
            rule = f"hold each run once, but {other.path} is called the same: rename it"
            raise SettingError("runs", rule, run.path)
        _check_same(run, target)
    for run, target in zip(finished, targets):
        target.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_placeless(run.config), indent=2) + "\n"
        folders.write_whole(target / folders.CONFIG, text)
        shutil.copyfile(run.path / RESULT, target / RESULT)
    for workdir, target in {r.path.parent: _workdir(r, kept) for r in finished}.items():
        _replace_plots(workdir, target)
    return finished, [run for run in found if not _is_finished(run)]


def _is_finished(run):
    synthetic = any(run.config.get(key) for key in SYNTHETIC)
    return run.result is not None and not synthetic


def _workdir(run, kept):
    return kept / run.recipe / run.path.parent.name


def _check_same(run, target):
    file = target / folders.CONFIG
    if not file.exists():
        return
    there = json.loads(file.read_text(encoding="utf-8"))
    differing = folders.differing_keys(there, _placeless(run.config))
    kept = json.loads((target / RESULT).read_text(encoding="utf-8"))
    if run.result["step"] < kept["step"]:  # one that was prolonged may take its place
        differing.append(f"steps, {run.result['step']} after {kept['step']}")
    if differing:
        rule = (
            f"hold runs with the settings of those kept under their names, but "
            f"{target.parent.name}/{target.name} differs in {', '.join(differing)}: "
            f"rename the workdir"
        )
        raise SettingError("runs", rule, run.path)


def _placeless(config):
    """A run's configuration without this machine's folders but their last names."""
    return {
        name: Path(value).name if name in common.PLACES else value
        for name, value in config.items()
    }


def _replace_plots(workdir, target):
    for old in target.glob("*.png"):
        old.unlink()
    for plot in [*workdir.glob("*.png"), *workdir.glob(f"{ANALYSES}/*.png")]:
        shutil.copyfile(plot, target / plot.name)
