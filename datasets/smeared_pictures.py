"""Pictures whose lower part is smeared downward, as decoders fill in what is missing.

Where the bits of a picture end early, a decoder repeats the last row it has, down to
the edge. A video that was copied after that, as those that are cut out of longer ones
are, has the smear for a picture: the file is sound, and no decoder finds a mistake.
"""

import numpy as np

_PART = 4  # the lower 1 / _PART of a picture is looked at
_COLUMNS = 128  # about as many columns are looked at
# Differences downward, by those across, are below this share in a smear. In whole
# pictures they are about as large: no less than 0.5 of those across in 13 real clips
# and 49 photographs. The one smear among them has 0.009, and the pictures after it, in
# which new blocks are drawn over the smear, 0.3: those are not told from whole ones.
_SHARE = 0.05
_ACROSS = 1.0  # grey levels; where there is less across, the picture is just plain


def is_smeared(luma):
    """Whether the rows of a picture's lower quarter are all the same, and not plain.

    Args:
        luma: uint8 `[height, width]`.
    """
    height, width = luma.shape
    rows = luma[height - height // _PART :, :: max(1, width // _COLUMNS)]
    if rows.shape[0] < 2 or rows.shape[1] < 2:
        return False
    rows = rows.astype(np.int16)
    across = np.abs(np.diff(rows, axis=1)).mean()
    down = np.abs(np.diff(rows, axis=0)).mean()
    return bool(across > _ACROSS and down < _SHARE * across)


def luma_of(frame):
    """uint8 `[height, width]`, the brightness of an `av.VideoFrame`."""
    kind = frame.format
    if (
        not kind.name.startswith(("yuv4", "yuvj4", "nv12"))
        or kind.components[0].bits > 8
    ):
        frame = frame.reformat(format="gray")
    plane = frame.planes[0]  # padded on the right
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]
