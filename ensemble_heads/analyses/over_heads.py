"""What is known of every head by itself, summed up over the heads."""

import numpy as np


class OverHeads:
    """Base of results with an attribute `heads`, numbers `[heads]`."""

    @property
    def mean(self):
        return float(np.mean(self.heads))

    @property
    def lowest(self):
        return float(np.min(self.heads))

    @property
    def highest(self):
        return float(np.max(self.heads))
