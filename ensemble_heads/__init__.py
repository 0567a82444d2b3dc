"""Better and smaller networks out of one: several light heads on a shared trunk.

The public surface, by task:

* convert: `multi_head`, `MultiHeadModel`, `MultiHeadWrapper`, `width_rule`
* put together what was trained apart: `combine`, `Snapshots`
* train: `losses`, `ensemblers`
* detect: `detection`
* measure: `metrics`, `analyses`, `report`, `profile`, `transfers`,
  `fold_batch_norm`, `unfolded_batch_norms`
* serve: `greedy_heads`, `export`
* distribute: `strategy`, `remote_devices`, `serve_devices`
"""

from ensemble_heads import analyses, detection, ensemblers, keras_api, losses, metrics
from ensemble_heads.combining import combine
from ensemble_heads.exporting import export
from ensemble_heads.folding import (
    UnfoldedBatchNorm,
    fold_batch_norm,
    unfolded_batch_norms,
)
from ensemble_heads.head_selection import greedy_heads
from ensemble_heads.multi_head_model import MultiHeadModel
from ensemble_heads.multi_head_wrapper import MultiHeadWrapper
from ensemble_heads.profiling import Profile, profile
from ensemble_heads.remote_devices import remote_devices, serve_devices
from ensemble_heads.reporting import report
from ensemble_heads.snapshots import Snapshots
from ensemble_heads.strategies import strategy
from ensemble_heads.surgery import multi_head
from ensemble_heads.transfers import Transfers, transfers
from ensemble_heads.width_rules import width_rule

__version__ = "0.1.0"

__all__ = [
    "MultiHeadModel",
    "MultiHeadWrapper",
    "Profile",
    "Snapshots",
    "Transfers",
    "UnfoldedBatchNorm",
    "analyses",
    "combine",
    "detection",
    "ensemblers",
    "export",
    "fold_batch_norm",
    "greedy_heads",
    "keras_api",
    "losses",
    "metrics",
    "multi_head",
    "profile",
    "remote_devices",
    "report",
    "serve_devices",
    "strategy",
    "transfers",
    "unfolded_batch_norms",
    "width_rule",
]
