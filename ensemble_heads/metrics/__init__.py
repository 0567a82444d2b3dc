"""Ordinary Keras metrics, streaming and exact: of scored labels, and of all heads.

Of scored labels:

* pooled over all examples: `GlobalAveragePrecision`, `MeanAveragePrecision`
* averaged over examples: `HitAtOne`, `PrecisionAtEqualRecall`
* of detected objects: `VOCMeanAveragePrecision`
* a plain function of ranked entries: `average_precisions`

The definitions of the first two kinds are those of the YouTube-8M starter code. Targets
are multi-hot `[batch, classes]`, predictions any scores `[batch, classes]` of which
higher is better.

Of all heads at once: `OracleAccuracy`, `MeanHeadAccuracy`, `HeadDisagreement`. In
`compile(head_metrics=[…])` they are fed the stack of all heads and logged once; a new
one derives from `AllHeadsMetric`.
"""

from ensemble_heads.metrics.all_heads_metric import AllHeadsMetric
from ensemble_heads.metrics.average_precision import average_precisions
from ensemble_heads.metrics.global_average_precision import GlobalAveragePrecision
from ensemble_heads.metrics.head_disagreement import HeadDisagreement
from ensemble_heads.metrics.hit_at_one import HitAtOne
from ensemble_heads.metrics.mean_average_precision import MeanAveragePrecision
from ensemble_heads.metrics.mean_head_accuracy import MeanHeadAccuracy
from ensemble_heads.metrics.oracle_accuracy import OracleAccuracy
from ensemble_heads.metrics.precision_at_equal_recall import PrecisionAtEqualRecall
from ensemble_heads.metrics.voc_mean_average_precision import VOCMeanAveragePrecision

__all__ = [
    "AllHeadsMetric",
    "GlobalAveragePrecision",
    "HeadDisagreement",
    "HitAtOne",
    "MeanAveragePrecision",
    "MeanHeadAccuracy",
    "OracleAccuracy",
    "PrecisionAtEqualRecall",
    "VOCMeanAveragePrecision",
    "average_precisions",
]
