"""Analyses of multi-headed classifiers, each as data and as a plot.

`collect(model, data)` runs all heads once; everything else is arithmetic on the
`HeadPredictions` that it returns, and a `plot_…` for each result:

* accuracy of ensemble, oracle and heads: `accuracies`
* diversity: `disagreement`, `ambiguity`, `output_entropies`, `class_assignment`,
  `confusion_matrices`
* one head for all: `module_dominance`; live, in training: `HeadMonitor`
* fewer heads: `drop_heads`, `evaluate_any_time`, `find_specialists`
* probabilities: `calibration`
* the model's weights: `optimum_width`
* the weight in its loss, over models trained with several: `weight_sweep`

Plots need matplotlib. They return a `Figure`, which `figure.savefig` writes, and open
no window.
"""

from ensemble_heads.analyses.accuracy import Accuracies, accuracies, plot_accuracies
from ensemble_heads.analyses.any_time import AnyTime, evaluate_any_time, plot_any_time
from ensemble_heads.analyses.assignment import (
    class_assignment,
    plot_class_assignment,
)
from ensemble_heads.analyses.collecting import collect
from ensemble_heads.analyses.confusion import (
    confusion_matrices,
    plot_confusion_matrices,
)
from ensemble_heads.analyses.decomposition import Ambiguity, ambiguity, plot_ambiguity
from ensemble_heads.analyses.dominance import (
    ModuleDominance,
    module_dominance,
    plot_module_dominance,
)
from ensemble_heads.analyses.dropped_heads import (
    DroppedHeads,
    drop_heads,
    plot_dropped_heads,
)
from ensemble_heads.analyses.entropy import (
    OutputEntropies,
    output_entropies,
    plot_output_entropies,
)
from ensemble_heads.analyses.head_monitor import HeadMonitor
from ensemble_heads.analyses.head_predictions import HeadPredictions
from ensemble_heads.analyses.pairwise import (
    disagreement,
    mean_disagreement,
    plot_disagreement,
)
from ensemble_heads.analyses.perturbation import (
    OptimumWidth,
    optimum_width,
    plot_optimum_width,
)
from ensemble_heads.analyses.reliability import (
    Calibration,
    calibration,
    plot_calibration,
)
from ensemble_heads.analyses.specialists import (
    Specialists,
    find_specialists,
    plot_specialists,
)
from ensemble_heads.analyses.weight_sweep import (
    WeightSweep,
    plot_weight_sweep,
    weight_sweep,
)

__all__ = [
    "Accuracies",
    "Ambiguity",
    "AnyTime",
    "Calibration",
    "DroppedHeads",
    "HeadMonitor",
    "HeadPredictions",
    "ModuleDominance",
    "OptimumWidth",
    "OutputEntropies",
    "Specialists",
    "WeightSweep",
    "accuracies",
    "ambiguity",
    "calibration",
    "class_assignment",
    "collect",
    "confusion_matrices",
    "disagreement",
    "drop_heads",
    "evaluate_any_time",
    "find_specialists",
    "mean_disagreement",
    "module_dominance",
    "optimum_width",
    "output_entropies",
    "plot_accuracies",
    "plot_ambiguity",
    "plot_any_time",
    "plot_calibration",
    "plot_class_assignment",
    "plot_confusion_matrices",
    "plot_disagreement",
    "plot_dropped_heads",
    "plot_module_dominance",
    "plot_optimum_width",
    "plot_output_entropies",
    "plot_specialists",
    "plot_weight_sweep",
    "weight_sweep",
]
