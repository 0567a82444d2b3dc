"""All analyses of a model on one HTML page."""

from pathlib import Path

from ensemble_heads import analyses, provenance, report_page, report_sections
from ensemble_heads.analyses import figures
from ensemble_heads.local_paths import local_path
from ensemble_heads.losses.ensemble_loss import integer_at_least

# Why a section is missing.
_SEVERAL = "defined for one class per example, not for several labels"
_BOUND = "needs an ensembler without weights, whose heads can be taken apart"


def report(
    model,
    data,
    path="report.html",
    validation=None,
    output=None,
    class_names=None,
    title=None,
    perturbations=0,
    input_shape=None,
    batch_size=128,
    verbose=1,
):
    """Writes what `eh.analyses` says of a model as one page of tables and plots.

    The page holds everything itself and is read without a network. What cannot be
    said of the model, as what needs an ensembler without weights, is listed at its end
    with the reason. Needs matplotlib.

    Args:
        model: `eh.MultiHeadModel`, a classifier.
        data: test data, as `eh.analyses.collect` takes it.
        path: str or path of the file to write; its folder is made where there is none.
        validation: other data, on which specialist heads are chosen. Default: that
            section is left out.
        output: str, name of the output to look at, where there are several.
        class_names: list of str, one per class. Default: numbers.
        title: str. Default: the model's name.
        perturbations: int, directions in which weights are pushed to see how wide the
            optimum is. Default 0: left out, since each takes six passes over the data.
        input_shape: as `eh.profile` takes it.
        batch_size, verbose: as for `eh.analyses.collect`.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        ValueError: as `eh.analyses.collect`, another number of names than classes, no
            number of directions, or a URL.
        IsADirectoryError: `path` is a folder.
        ImportError: matplotlib is not installed.
    """
    path = Path(local_path("path", path))
    if path.is_dir():
        raise IsADirectoryError(
            f"`path` must be the file to write. Received: path={str(path)!r}, a folder"
        )
    perturbations = integer_at_least("perturbations", perturbations, 0)
    figures.new_figure()  # Without matplotlib, fails before anything is computed.
    arguments = {"output": output, "batch_size": batch_size, "verbose": verbose}
    said = analyses.collect(model, data, **arguments)
    figures.require_names(class_names, said.num_classes)
    sections, left_out = [report_sections.summary(model, said, input_shape)], []
    if said.link == "softmax":
        sections += report_sections.of_one_class(said, class_names)
    else:
        left_out += [[name, _SEVERAL] for name in report_sections.OF_ONE_CLASS]
    sections += report_sections.of_distributions(said)
    some, missing = _of_some_heads(model, said, validation, input_shape, arguments)
    sections, left_out = sections + some, left_out + missing
    if perturbations:
        found = analyses.optimum_width(
            model, data, directions=perturbations, **arguments
        )
        sections.append(report_sections.width(found))
    else:
        left_out.append([report_sections.WIDTH, "not asked for by `perturbations`"])
    if left_out:
        sections.append(report_sections.left_out(left_out))
    footer = ", ".join(f"{k} {v}" for k, v in provenance.describe().items() if v)
    page = report_page.render(title or model.name, sections, footer)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _of_some_heads(model, said, validation, input_shape, arguments):
    """Sections about ensembles of some of the heads, and what is left out of them."""
    names = report_sections.FEWER_HEADS
    try:
        said.require_free_ensembler()
    except ValueError:
        every = [*names, report_sections.SPECIALISTS]
        return [], [[name, _BOUND] for name in every]
    sections, left_out = [], []
    if said.link == "softmax":
        sections += report_sections.of_fewer_heads(model, said, input_shape)
    else:
        left_out += [[name, _SEVERAL] for name in names]
    if validation is not None:
        chosen_on = analyses.collect(model, validation, **arguments)
        sections.append(report_sections.specialists(chosen_on, said))
    else:
        left_out.append(
            [report_sections.SPECIALISTS, "needs data to choose on: `validation`"]
        )
    return sections, left_out
