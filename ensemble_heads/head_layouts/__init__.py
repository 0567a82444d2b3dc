"""How the heads of a `MultiHeadWrapper` are held and run.

A layout is a layer that owns the heads' variables; the wrapper and everything above it
need not know which one it is:

* `SeparateHeads`: every head is a functional model of its own, on a device of its own
  if wanted;
* `HeadTree`: heads branch off one another and share what lies below;
* `StackedHeads`: equal heads hold their variables together and run at once.
"""

from ensemble_heads.head_layouts.arranging import (
    check_execution,
    check_tree_execution,
    lay_out,
)
from ensemble_heads.head_layouts.head_layout import HeadLayout, check_num_heads
from ensemble_heads.head_layouts.head_tree import HeadTree
from ensemble_heads.head_layouts.separate_heads import SeparateHeads
from ensemble_heads.head_layouts.stacked_heads import StackedHeads

__all__ = [
    "HeadLayout",
    "HeadTree",
    "SeparateHeads",
    "StackedHeads",
    "check_execution",
    "check_num_heads",
    "check_tree_execution",
    "lay_out",
]
