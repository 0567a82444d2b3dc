"""Detection on given proposals, as Fast R-CNN does it: boxes, targets, loss, decoding.

* boxes as numbers: `intersection_over_union`, `encode_boxes`, `decode_boxes`
* what proposals are to learn: `assign_targets`, and the loss of their boxes,
  `BoxRegression`
* from a model's outputs to detections: `detect`

A box is `(y1, x1, y2, x2)` as TensorFlow's image operations take it, normalised: 0 and
1 are the edges of the image. Class 0 of a proposal is the background, -1 is padding;
objects and detections count their classes from 0. A box of no area is padding.

The metric is `eh.metrics.VOCMeanAveragePrecision`, the model `zoo/fast_rcnn.py`.
"""

from ensemble_heads.detection.box_regression import BoxRegression
from ensemble_heads.detection.boxes import (
    decode_boxes,
    encode_boxes,
    intersection_over_union,
)
from ensemble_heads.detection.decoding import detect
from ensemble_heads.detection.targets import assign_targets

__all__ = [
    "BoxRegression",
    "assign_targets",
    "decode_boxes",
    "detect",
    "encode_boxes",
    "intersection_over_union",
]
