"""Specialist sub-ensembles: the best heads for a class, against heads at random."""

import dataclasses

import numpy as np

from ensemble_heads.analyses.figures import by_label, legend_below, one_panel
from ensemble_heads.analyses.whole_numbers import whole_numbers
from ensemble_heads.losses.ensemble_loss import integer_at_least


@dataclasses.dataclass(frozen=True, eq=False)
class Specialists:
    """F1 scores on the test split of one-vs-all problems, one for every class.

    Attributes:
        size: int, heads in a sub-ensemble.
        random: float64 `[classes]`, mean over the candidates.
        specialist: float64 `[classes]`, of the candidate that was best at the class
            on the validation split.
        chosen: int64 `[classes, size]`, the heads of those candidates.
    """

    size: int
    random: np.ndarray
    specialist: np.ndarray
    chosen: np.ndarray

    @property
    def gap(self):
        """float, how far specialists are ahead, in the mean over the classes."""
        return float(np.mean(self.specialist - self.random))


def find_specialists(validation, test, size=1, candidates=200, seed=0):
    """Chooses the sub-ensemble of best F1 for every class, and tests it.

    A sub-ensemble says yes to a class where it is the most probable one; with several
    labels per example, where its probability is above 1/2. F1 is 0 where nothing is
    found and nothing was there.

    Args:
        validation, test: `HeadPredictions` of the same model.
        size: int, heads in a sub-ensemble; the paper takes 1 and 20.
        candidates: int, sub-ensembles drawn at random to choose from; the paper takes
            200. Where `size` is 1, every head is a candidate, and none is drawn.
        seed: int; the same seed draws the same candidates.

    Returns:
        `Specialists`.

    Raises:
        ValueError: splits that do not go together, a `size` that the model does not
            have, or an ensembler with weights.

    References:
        Webb et al. 2019, arXiv:1902.04422, Figure 5.
    """
    heads = validation.num_heads
    if test.head_logits.shape[1:] != validation.head_logits.shape[1:]:
        raise ValueError(
            "`validation` and `test` must be predictions of one model. Received: heads "
            f"and classes {validation.head_logits.shape[1:]} and "
            f"{test.head_logits.shape[1:]}"
        )
    (size,) = whole_numbers("size", size, 1, heads)
    candidates = integer_at_least("candidates", candidates, 1)
    groups = _groups(heads, size, candidates, seed)
    on_validation, on_test = _f1_scores(validation, groups), _f1_scores(test, groups)
    best = np.argmax(on_validation, axis=0)
    return Specialists(
        size=size,
        random=on_test.mean(axis=0),
        specialist=on_test[best, np.arange(test.num_classes)],
        chosen=np.array(groups)[best],
    )


def plot_specialists(results, title="Specialist and random sub-ensembles"):
    """Mean F1 score of specialists and of random sub-ensembles.

    Args:
        results: `Specialists`, or a dict of them by label, such as lambda.
        title: str.

    Returns:
        matplotlib `Figure`.
    """
    figure, axes = one_panel(title, "", "mean F1 score")
    results = by_label(results)
    places = np.arange(len(results))
    for offset, kind in ((-0.2, "random"), (0.2, "specialist")):
        scores = [getattr(result, kind).mean() for result in results.values()]
        axes.bar(places + offset, scores, width=0.4, label=kind)
    axes.set_xticks(places, labels=list(results))
    axes.set_ylim(0, 1)
    legend_below(axes)
    return figure


def _groups(heads, size, candidates, seed):
    """The sub-ensembles to choose from: all single heads, else draws."""
    if size == 1:
        return [[head] for head in range(heads)]
    generator = np.random.default_rng(seed)
    if size == heads:
        return [list(range(heads))]
    draws = [generator.permutation(heads)[:size] for _ in range(candidates)]
    return [sorted(map(int, draw)) for draw in draws]


def _f1_scores(predictions, groups):
    """float64 `[groups, classes]`, F1 of sub-ensembles in every one-vs-all problem."""
    if predictions.link == "softmax":
        classes = np.arange(predictions.num_classes)
        true = predictions.labels[:, np.newaxis] == classes
        answers = (
            said[:, np.newaxis] == classes for said in predictions.classes_of(groups)
        )
    else:
        true = predictions.labels
        answers = (predictions.logits_of(group) > 0 for group in groups)
    return np.array([_f1(predictions, said, true) for said in answers])


def _f1(predictions, said, true):
    """F1 of yes and no, bool `[examples, classes]`, for each class."""
    found = predictions.sum(said & true)
    total = predictions.sum(said) + predictions.sum(true)
    return np.where(total > 0, 2 * found / np.where(total > 0, total, 1), 0.0)
