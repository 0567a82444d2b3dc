"""Numbers that the analysis of a run has beside those of `eh.analyses`."""

import types

import ensemble_heads as eh
from recipes import fashion_mnist_modular, modular_figures, run_analyses, sweeps


def test_heads_that_know_some_classes_do_better_by_probabilities():
    # The second head rules out class 0, which it never saw: in a mean of logits its -30
    # outweighs the first head's 9.
    logits = [[[9.0, 0.0, 0.0], [-30.0, 1.0, 0.0]], [[0.0, 3.0, 0.0], [0.0, 4.0, 0.0]]]
    said = eh.analyses.HeadPredictions.from_logits([0, 1], logits)
    assert run_analyses.accuracies_of_means(said) == {
        "mean_of_probabilities_accuracy": 1.0,
        "mean_of_logits_accuracy": 0.5,
    }


def test_what_else_was_swept_is_no_other_seed():
    settings = fashion_mnist_modular.PRESETS["smoke"].with_changes(coupling=0.5)
    analysed = [
        types.SimpleNamespace(run=sweeps.Run("net", settings, seed, changes), result={})
        for seed, changes in (
            *((0, {"coupling": 0.5}), (1, {"coupling": 0.5}), (2, {})),
            *((0, {"coupling": 0.5, "momentum": 0.1}), (0, {"momentum": 0.1})),
        )
    ]
    groups = modular_figures._by_lambda(analysed, lambda model: model == "net")
    assert {key: len(runs) for key, runs in groups.items()} == {
        ("net", 0.5): 3,
        ("net momentum=0.1", 0.5): 2,
    }
