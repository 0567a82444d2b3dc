"""Analyses of given predictions, against loops over examples and heads."""

import dataclasses
import itertools

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads import analyses
from ensemble_heads.analyses import head_predictions
from ensemble_heads.keras_api import keras
from tests import small_models

EXAMPLES, HEADS, CLASSES = 40, 5, 4


def softmax(z):
    z = np.asarray(z, "float64")
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def made(of="probabilities", heads=HEADS, examples=EXAMPLES, scale=2.0):
    labels = np.random.randint(0, CLASSES, examples)
    logits = scale * np.random.normal(size=(examples, heads, CLASSES))
    return analyses.HeadPredictions.from_logits(
        labels, logits, ensembler=eh.ensemblers.Mean(of)
    )


def several_labels(of="logits"):
    labels = np.random.randint(0, 2, [EXAMPLES, CLASSES])
    logits = 2 * np.random.normal(size=(EXAMPLES, HEADS, CLASSES))
    return analyses.HeadPredictions.from_logits(
        labels, logits, "sigmoid", eh.ensemblers.Mean(of)
    )


def ensemble_by_hand(logits, of):
    """Probabilities `[classes]` of the ensemble of logits `[heads, classes]`."""
    if of == "logits":
        return softmax(np.mean(np.asarray(logits, "float64"), axis=0))
    return np.mean([softmax(z) for z in logits], axis=0)


@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_ensembles_are_the_means_that_the_ensembler_takes(of):
    said = made(of)
    some = [3, 1]
    for i, logits in enumerate(said.head_logits):
        whole, part = ensemble_by_hand(logits, of), ensemble_by_hand(logits[some], of)
        npt.assert_allclose(said.ensemble_probabilities[i], whole, rtol=1e-5)
        npt.assert_allclose(softmax(said.logits_of(some)[i]), part, rtol=1e-5)


@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_many_ensembles_at_once(of, monkeypatch):
    said, groups = made(of), [[3, 1], [0], [4, 2, 1]]
    expected = [
        [np.argmax(ensemble_by_hand(z[group], of)) for z in said.head_logits]
        for group in groups
    ]
    npt.assert_array_equal(said.classes_of(groups), expected)
    monkeypatch.setattr(head_predictions, "_MOST_NUMBERS", 1)  # one at a time
    npt.assert_array_equal(said.classes_of(groups), expected)


def test_an_ensembler_of_ones_own_without_weights():
    class Highest(keras.layers.Layer):
        def call(self, inputs):
            return tf.reduce_max(inputs, axis=1)

    labels, logits = np.zeros(9), np.random.normal(size=(9, 3, 4))
    said = analyses.HeadPredictions.from_logits(labels, logits, ensembler=Highest())
    expected = softmax(logits[:, [0, 2]]).max(axis=1).argmax(axis=-1)
    npt.assert_array_equal(said.classes_of([[0, 2]])[0], expected)


def test_ensembles_of_heads_that_are_entirely_sure():
    logits = [[[1e4, 0, 0], [0, 1e4, 0], [0, 1e4, 0]]]
    said = analyses.HeadPredictions.from_logits([1], logits)
    npt.assert_allclose(said.ensemble_probabilities, [[1 / 3, 2 / 3, 0]], rtol=1e-5)
    found = analyses.ambiguity(said)
    npt.assert_allclose(found.ensemble_loss, np.log(1.5), rtol=1e-5)
    npt.assert_allclose(found.head_losses, [1e4, 0, 0], rtol=1e-5)


def test_accuracies():
    said = made()
    heads, whole, oracle = np.zeros(HEADS), 0, 0
    for label, logits in zip(said.labels, said.head_logits):
        right = [int(np.argmax(z) == label) for z in logits]
        heads += right
        oracle += max(right)
        whole += np.argmax(ensemble_by_hand(logits, "probabilities")) == label
    found = analyses.accuracies(said)
    npt.assert_allclose(found.heads, heads / EXAMPLES)
    assert (found.ensemble, found.oracle) == (whole / EXAMPLES, oracle / EXAMPLES)
    assert found.lowest == min(found.heads) < found.mean < found.highest
    assert found.highest < found.oracle


def test_disagreement():
    said = made()
    matrix = analyses.disagreement(said)
    for i, j in itertools.product(range(HEADS), repeat=2):
        pairs = [(np.argmax(z[i]), np.argmax(z[j])) for z in said.head_logits]
        npt.assert_allclose(matrix[i, j], np.mean([a != b for a, b in pairs]))
    pairs = [matrix[i, j] for i, j in itertools.combinations(range(HEADS), 2)]
    npt.assert_allclose(analyses.mean_disagreement(matrix), np.mean(pairs))
    assert analyses.mean_disagreement(matrix[:1, :1]) == 0


@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_ambiguity(of):
    said = made(of)
    head_losses, whole, divergences = np.zeros(HEADS), 0.0, []
    for label, logits in zip(said.labels, said.head_logits):
        q = ensemble_by_hand(logits, of)
        whole -= np.log(q[label])
        for i, z in enumerate(logits):
            head_losses[i] -= np.log(softmax(z)[label])
            divergences.append(np.sum(q * np.log(q / softmax(z))))
    found = analyses.ambiguity(said)
    npt.assert_allclose(found.head_losses, head_losses / EXAMPLES, rtol=1e-5)
    npt.assert_allclose(found.ensemble_loss, whole / EXAMPLES, rtol=1e-5)
    npt.assert_allclose(found.divergence, np.mean(divergences), rtol=1e-4)
    gap = found.mean_head_loss - found.ensemble_loss
    npt.assert_allclose(found.ambiguity, gap)
    assert found.ambiguity > 0


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_ambiguity_is_the_divergence_from_the_mean_of_the_logits(link):
    """Equation 6, for any labels; and only for that mean."""
    make = made if link == "softmax" else several_labels
    found = analyses.ambiguity(make("logits"))
    npt.assert_allclose(found.ambiguity, found.divergence, rtol=1e-4)
    other = analyses.ambiguity(make("probabilities"))
    assert abs(other.ambiguity - other.divergence) > 0.01


def test_ambiguity_of_several_labels():
    said = several_labels()
    p = 1 / (1 + np.exp(-said.head_logits.astype("float64")))
    chosen = np.where(said.labels[:, None], p, 1 - p)
    expected = -np.log(chosen).sum(axis=-1).mean(axis=0)
    npt.assert_allclose(analyses.ambiguity(said).head_losses, expected, rtol=1e-5)


def test_entropies():
    said = made()
    p = softmax(said.head_logits)
    expected = -(p * np.log(p)).sum(axis=-1).mean(axis=0)
    found = analyses.output_entropies(said)
    npt.assert_allclose(found.heads, expected, rtol=1e-5)
    q = np.array([ensemble_by_hand(z, "probabilities") for z in said.head_logits])
    npt.assert_allclose(found.ensemble, -(q * np.log(q)).sum(-1).mean(), rtol=1e-5)
    numbers = found.lowest, found.highest, found.mean, found.std
    spread = np.sqrt(np.mean((expected - expected.mean()) ** 2))
    by_hand = expected.min(), expected.max(), expected.mean(), spread
    npt.assert_allclose(numbers, by_hand, rtol=1e-4)


def test_entropies_of_several_labels_and_of_the_sure():
    said = several_labels()
    p = 1 / (1 + np.exp(-said.head_logits.astype("float64")))
    terms = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    found = analyses.output_entropies(said)
    npt.assert_allclose(found.heads, terms.sum(-1).mean(0), rtol=1e-5)
    sure = analyses.HeadPredictions.from_logits([0], [[[1e4, 0], [0, 0]]])
    npt.assert_allclose(
        analyses.output_entropies(sure).heads, [0, np.log(2)], atol=1e-7
    )


def test_module_dominance_finds_the_head_that_does_the_work():
    said = made("logits")
    logits = said.head_logits.copy()
    logits[:, 2] = 50 * np.eye(CLASSES)[said.labels]
    said = analyses.HeadPredictions.from_logits(
        said.labels, logits, ensembler=eh.ensemblers.Mean("logits")
    )
    found = analyses.module_dominance(said)
    assert found.dominant == 2 and found.ensemble_error == 0
    assert found.head_errors[2] == 0 and found.agreement[2] == 1
    errors = 1 - analyses.accuracies(said).heads
    npt.assert_allclose(found.lead, np.mean(errors[[0, 1, 3, 4]]))
    npt.assert_allclose(found.agreement, 1 - errors)  # The ensemble is always right.


def test_dropped_heads_are_averages_over_subsets():
    said = made()
    found = analyses.drop_heads(said, [0, 3, HEADS - 1], draws=400, seed=1)
    for kept, mean in zip((HEADS, 2, 1), found.mean):
        exact = [
            np.mean(
                [
                    np.argmax(ensemble_by_hand(z[list(group)], "probabilities")) == g
                    for g, z in zip(said.labels, said.head_logits)
                ]
            )
            for group in itertools.combinations(range(HEADS), kept)
        ]
        npt.assert_allclose(mean, np.mean(exact), atol=0.02)
        values = found.accuracies[[HEADS, 2, 1].index(kept)]
        assert set(np.round(values, 6)) == set(np.round(exact, 6))
    assert found.std[0] == 0 and found.std[1] > 0
    again = analyses.drop_heads(said, [0, 3, HEADS - 1], draws=400, seed=1)
    npt.assert_array_equal(again.accuracies, found.accuracies)
    npt.assert_array_equal(analyses.drop_heads(said).dropped, range(HEADS))


def test_specialists_against_a_search_by_hand():
    validation, test = made(examples=60), made(examples=50)
    found = analyses.find_specialists(validation, test)

    def f1(said, head, c):
        yes = [np.argmax(z[head]) == c for z in said.head_logits]
        true = [label == c for label in said.labels]
        both = sum(a and b for a, b in zip(yes, true))
        if not both:
            return 0.0
        precision, recall = both / sum(yes), both / sum(true)
        return 2 * precision * recall / (precision + recall)

    for c in range(CLASSES):
        best = np.argmax([f1(validation, head, c) for head in range(HEADS)])
        npt.assert_array_equal(found.chosen[c], [best])
        npt.assert_allclose(found.specialist[c], f1(test, best, c))
        average = np.mean([f1(test, head, c) for head in range(HEADS)])
        npt.assert_allclose(found.random[c], average)
    npt.assert_allclose(found.gap, np.mean(found.specialist - found.random))


def test_specialist_heads_are_found_in_groups():
    """Head 0 knows class 0 and nothing else, and so on."""
    labels = np.arange(200) % CLASSES
    logits = np.random.normal(size=(200, CLASSES, CLASSES))
    for head in range(CLASSES):
        logits[:, head, head] += np.where(labels == head, 30, -30)
    said = analyses.HeadPredictions.from_logits(labels, logits)
    single = analyses.find_specialists(said, said)
    npt.assert_array_equal(single.chosen[:, 0], range(CLASSES))
    npt.assert_allclose(single.specialist, 1)
    pairs = analyses.find_specialists(said, said, size=2, candidates=60)
    assert all(c in group for c, group in enumerate(pairs.chosen))
    assert pairs.gap > 0.1 and single.gap > 0.5


def test_specialists_of_several_labels():
    said = several_labels()
    found = analyses.find_specialists(said, said, size=HEADS)
    mean = said.head_logits.mean(axis=1) > 0
    for c in range(CLASSES):
        both = np.sum(mean[:, c] & said.labels[:, c])
        total = mean[:, c].sum() + said.labels[:, c].sum()
        npt.assert_allclose(found.specialist[c], 2 * both / total)


def test_class_assignment():
    said = made()
    counts = np.zeros([CLASSES, HEADS])
    for label, logits in zip(said.labels, said.head_logits):
        counts[label, np.argmin([-np.log(softmax(z)[label]) for z in logits])] += 1
    shares = analyses.class_assignment(said)
    npt.assert_allclose(shares, counts / counts.sum(axis=1, keepdims=True))
    npt.assert_allclose(shares.sum(axis=1), 1)
    few = analyses.HeadPredictions.from_logits([0], np.zeros([1, 2, 3]))
    npt.assert_array_equal(
        analyses.class_assignment(few), [[1, 0], [np.nan] * 2, [np.nan] * 2]
    )


def test_losses_that_are_rounded_to_0_do_not_go_to_the_first_head():
    logits = np.zeros([6, 3, CLASSES])
    logits[..., 0] = 20, 60, 40  # exp(-20) is lost beside 1 in float32, exp(-40) always
    said = analyses.HeadPredictions.from_logits(np.zeros(6), logits)
    npt.assert_array_equal(analyses.class_assignment(said)[0], [0, 1, 0])


@pytest.mark.parametrize("where", ["head_logits", "ensemble_logits"])
def test_nan_is_no_prediction(where):
    """argmax would take it for the highest score, and calibration for a good one."""
    said = made()
    logits = getattr(said, where).copy()
    logits[3, -1] = np.nan
    who = r"heads \[4\]" if where == "head_logits" else "the ensemble"
    with pytest.raises(ValueError, match=f"must not be NaN.*Received: NaN from {who}"):
        dataclasses.replace(said, **{where: logits})


def test_classes_that_are_ruled_out():
    logits = np.array([[[1, 0, -np.inf], [0, 2, -np.inf]]])
    for of in ("probabilities", "logits"):
        mean = eh.ensemblers.Mean(of)
        make = analyses.HeadPredictions.from_logits
        said, without = (
            make([0], some, ensembler=mean) for some in (logits, logits[..., :2])
        )
        for name in ("heads", "ensemble"):
            found = getattr(analyses.output_entropies(said), name)
            other = getattr(analyses.output_entropies(without), name)
            npt.assert_allclose(found, other, rtol=1e-6)
        found, other = analyses.ambiguity(said), analyses.ambiguity(without)
        assert found.divergence == pytest.approx(other.divergence, rel=1e-5)


def test_confusion_matrices():
    said = made()
    counts = np.zeros([HEADS, CLASSES, CLASSES])
    for label, logits in zip(said.labels, said.head_logits):
        for head, z in enumerate(logits):
            counts[head, label, np.argmax(z)] += 1
    npt.assert_array_equal(analyses.confusion_matrices(said), counts)


@pytest.mark.parametrize("head", [None, 1])
def test_calibration(head):
    said = made(examples=300)
    p = said.ensemble_probabilities if head is None else said.head_probabilities[:, 1]
    found = analyses.calibration(said, head, bins=5)
    error = 0.0
    for b in range(5):
        inside = [i for i in range(300) if b / 5 < max(p[i]) <= (b + 1) / 5]
        assert found.counts[b] == len(inside)
        if not inside:
            assert np.isnan(found.accuracies[b])
            continue
        confidence = np.mean([max(p[i]) for i in inside])
        accuracy = np.mean([np.argmax(p[i]) == said.labels[i] for i in inside])
        npt.assert_allclose(found.confidences[b], confidence, rtol=1e-6)
        npt.assert_allclose(found.accuracies[b], accuracy)
        error += len(inside) / 300 * abs(confidence - accuracy)
    npt.assert_allclose(found.error, error, rtol=1e-5)


def test_what_one_class_per_example_needs_is_refused_for_several():
    said = several_labels()
    for analysis in (
        analyses.accuracies,
        analyses.disagreement,
        analyses.module_dominance,
        analyses.class_assignment,
        analyses.confusion_matrices,
        analyses.calibration,
        analyses.drop_heads,
    ):
        with pytest.raises(ValueError, match="one class per example"):
            analysis(said)


def test_some_of_the_heads_of_an_ensembler_with_weights_are_refused():
    layer = small_models.Weighting()
    layer.build((None, HEADS, CLASSES))
    said = made()
    weighted = analyses.HeadPredictions(
        said.labels, said.head_logits, said.ensemble_logits, ensembler=layer
    )
    unknown = analyses.HeadPredictions(
        said.labels, said.head_logits, said.ensemble_logits
    )
    for one in (weighted, unknown):
        for analysis in (
            analyses.drop_heads,
            lambda s: analyses.find_specialists(s, s),
        ):
            with pytest.raises(ValueError, match="ensembler without weights"):
                analysis(one)
        assert analyses.accuracies(one).oracle > 0


def test_bad_arguments():
    said = made()
    for call, message in [
        (lambda: analyses.drop_heads(said, [HEADS]), "`dropped` must be"),
        (lambda: analyses.drop_heads(said, [1.7]), "`dropped` must be whole"),
        (lambda: analyses.drop_heads(said, draws=0), "`draws` must be"),
        (lambda: analyses.drop_heads(said, draws=2.5), "`draws` must be an integer"),
        (lambda: analyses.calibration(said, HEADS), "`head` must be whole, .* to 4"),
        (lambda: analyses.calibration(said, 1.5), "`head` must be whole"),
        (lambda: analyses.find_specialists(said, said, size=9), "`size` must be"),
        (lambda: analyses.find_specialists(said, said, size=1.5), "`size` must be"),
        (lambda: analyses.find_specialists(said, said, candidates=0), "`candidates`"),
        (lambda: analyses.find_specialists(said, made(heads=2)), "one model"),
        (lambda: analyses.calibration(said, bins=0), "`bins` must be"),
        (lambda: made(examples=0), "at least one example"),
        (lambda: analyses.HeadPredictions.from_logits([0], [[[1.0]]], "no"), "`link`"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
