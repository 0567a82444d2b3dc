"""Metrics of scored labels: ordinary Keras metrics, streaming and exact.

* pooled over all examples: `GlobalAveragePrecision`, `MeanAveragePrecision`
* averaged over examples: `HitAtOne`, `PrecisionAtEqualRecall`
* of detected objects: `VOCMeanAveragePrecision`
* a plain function of ranked entries: `average_precisions`

The definitions of the first two kinds are those of the YouTube-8M starter code. Targets
are multi-hot `[batch, classes]`, predictions any scores `[batch, classes]` of which
higher is better.
"""

from ensemble_heads.metrics.average_precision import average_precisions
from ensemble_heads.metrics.global_average_precision import GlobalAveragePrecision
from ensemble_heads.metrics.hit_at_one import HitAtOne
from ensemble_heads.metrics.mean_average_precision import MeanAveragePrecision
from ensemble_heads.metrics.precision_at_equal_recall import PrecisionAtEqualRecall
from ensemble_heads.metrics.voc_mean_average_precision import VOCMeanAveragePrecision

__all__ = [
    "GlobalAveragePrecision",
    "HitAtOne",
    "MeanAveragePrecision",
    "PrecisionAtEqualRecall",
    "VOCMeanAveragePrecision",
    "average_precisions",
]
