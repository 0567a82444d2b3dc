"""How the heads of a `MultiHeadWrapper` are held and run.

A layout is a layer that owns the heads' variables; the wrapper and everything above it
need not know which one it is:

* `SeparateHeads`: every head is a functional model of its own;
* `HeadTree`: heads branch off one another and share what lies below.
"""

from ensemble_heads.head_layouts.head_layout import HeadLayout, check_num_heads
from ensemble_heads.head_layouts.head_tree import HeadTree
from ensemble_heads.head_layouts.separate_heads import SeparateHeads

__all__ = ["HeadLayout", "HeadTree", "SeparateHeads", "check_num_heads"]
