"""How wide the optima are that runs have found, Figure 3 of ONE.

Lan et al. 2018, arXiv:1806.04606, section 4.5.
"""

import json

import numpy as np

import ensemble_heads as eh
from recipes import folders

DATA = "optimum_width.json"
PLOT = "optimum_width_{part}.png"

_FIELDS = ("distances", "losses", "errors")


def measure(model, parts, images, path):
    """Pushes a network away from where training left it, and writes what that does.

    Args:
        model: `keras.Model`.
        parts: {name of a part of the data: what `eh.analyses.optimum_width` takes}.
        images: int, how many each of them has.
        path: `Path` of the folder to write `optimum_width.json` to.
    """
    folders.make_writable(path)
    found = {}
    for part, data in parts.items():
        width = eh.analyses.optimum_width(model, data)
        values = {name: getattr(width, name).tolist() for name in _FIELDS}
        found[part] = {"images": images, **values}
    folders.write_whole(path / DATA, json.dumps(found, indent=1) + "\n")


def draw(path, analysed, title):
    """Compares the runs that were measured in a plot for each part of the data.

    Args:
        path: `Path` of a folder.
        analysed: list of `run_analyses.Analysed`.
        title: str.
    """
    by_part = {}
    for one in analysed:
        file = one.folder.analyses / DATA
        if file.exists():
            found = json.loads(file.read_text(encoding="utf-8"))
            for part, values in found.items():
                arrays = (np.array(values[name]) for name in _FIELDS)
                width = eh.analyses.OptimumWidth(*arrays)
                by_part.setdefault(part, {})[one.run.key] = width
    for part, widths in by_part.items():
        figure = eh.analyses.plot_optimum_width(widths, f"{title}, {part} images")
        figure.savefig(path / PLOT.format(part=part), dpi=120)
