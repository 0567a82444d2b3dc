"""Which frames of a video make a clip, and what is cut out of them.

All of it is arithmetic on time stamps and sizes, the same for videos, for records of
JPEG frames and for made-up clips. What is drawn follows from seed, epoch and the
video's name alone.
"""

import dataclasses

import numpy as np

from datasets import frame_draws

_RESOLUTION = 1 << 30  # steps of a draw from [0, 1)
_DRAWS = ("start", "side", "top", "left", "mirror")


@dataclasses.dataclass(frozen=True)
class Form:
    """What is made of a video, as `kinetics.load` says."""

    frames: int = 64
    stride: int = 1
    frame_rate: float | None = 25.0
    crop: int = 224
    short_sides: tuple[int, int] = (256, 320)
    temporal_views: int = 1
    spatial_views: int = 1
    augment: bool = False
    seed: int = 0

    @property
    def views(self):
        """Clips that are made of one video."""
        return self.temporal_views * self.spatial_views


class Plan:
    """The clips of one video.

    Args:
        times: float `[frames]`, seconds, sorted: when the video's frames are shown.
        name: str, the video's.
        epoch: int.
        form: `Form`.

    Attributes:
        wanted: float `[n]`, those of `times` that are in a clip, sorted and each once.
        index: int32 `[temporal_views, frames]`, the number in `wanted` of each frame.
    """

    def __init__(self, times, name, epoch, form):
        self._form, self._draws = form, None
        if form.augment:
            self._draws = _draw(name, epoch, form.seed)
        grid = times[nearest(times, frame_grid(times, form.frame_rate))]
        places = clip_places(
            len(grid),
            form.frames,
            form.stride,
            form.temporal_views,
            self._draws and self._draws["start"],
        )
        self.wanted, index = np.unique(grid[places], return_inverse=True)
        self.index = index.reshape(places.shape).astype(np.int32)

    def cut(self, picture):
        """What all views have of a frame, uint8 `[spatial_views, crop, crop, 3]`.

        Args:
            picture: uint8 `[height, width, 3]`, of any size.
        """
        from PIL import Image  # videos' own: no other data set needs it

        form, draws = self._form, self._draws
        image = Image.fromarray(picture)
        boxes = crop_boxes(
            *picture.shape[:2], form.crop, form.short_sides, form.spatial_views, draws
        )
        size = (form.crop, form.crop)
        cuts = [
            np.asarray(image.resize(size, Image.Resampling.BILINEAR, box))
            for box in boxes
        ]
        if draws and draws["mirror"] < 0.5:
            cuts = [cut[:, ::-1] for cut in cuts]
        return np.stack(cuts)


def frame_grid(times, frame_rate):
    """Moments at equal distances from a video's first frame to about its last.

    Args:
        times: float `[frames]`, seconds, sorted, at least one.
        frame_rate: moments a second; None takes the video's own mean rate.

    Returns:
        float `[moments]`, seconds.
    """
    lasting = times[-1] - times[0]
    if frame_rate is None:
        frame_rate = (len(times) - 1) / lasting if lasting > 0 else 1.0
    return times[0] + np.arange(int(np.rint(lasting * frame_rate)) + 1) / frame_rate


def nearest(times, moments):
    """Number of the time nearest to each moment, the earlier of two as near.

    Args:
        times: float `[n]`, sorted, at least one.
        moments: float `[m]`.
    """
    after = np.clip(np.searchsorted(times, moments), 1, max(len(times) - 1, 1))
    if len(times) == 1:
        return np.zeros(len(moments), np.int64)
    # A tie must not depend on rounding: half a microsecond is none.
    later = times[after] - moments < moments - times[after - 1] - 5e-7
    return after - 1 + later


def clip_places(available, frames, stride, views, draw=None):
    """Places in a video's grid of the frames of its clips.

    A video that is too short is looped (Carreira and Zisserman 2017, arXiv:1705.07750).

    Args:
        available: int >= 1, places in the grid.
        frames: int, frames of a clip.
        stride: int, places from one frame to the next.
        views: int, clips, at equal distances from the first to the last there can be;
            one is from the middle.
        draw: float in [0, 1) that chooses the start; None for the views.

    Returns:
        int `[views, frames]`
    """
    free = max(available - ((frames - 1) * stride + 1), 0)
    if draw is not None:
        starts = np.array([int(draw * (free + 1))])
    elif views == 1:
        starts = np.array([free // 2])
    else:
        starts = np.rint(np.linspace(0, free, views)).astype(np.int64)
    return (starts[:, np.newaxis] + np.arange(frames) * stride) % available


def crop_boxes(height, width, crop, short_sides, views, draws=None):
    """What squares of `crop` pixels are of a frame, once its short side is resized.

    Args:
        height, width: int, of the frame.
        crop: int.
        short_sides: pair of int from `crop`: the range of the short side where it is
            drawn. Otherwise it is the first.
        views: int, squares, at equal distances along the long side from end to end;
            one is from the middle. Along the short side they are from the middle.
        draws: {"side", "top", "left": float in [0, 1)}; None for the views.

    Returns:
        List of (left, top, right, bottom), in pixels of the frame.
    """
    low, high = short_sides
    side = low if draws is None else low + int(draws["side"] * (high - low + 1))
    scale = side / min(height, width)
    resized = np.maximum(np.rint(np.array([height, width]) * scale), side).astype(int)
    free = resized - crop
    if draws is not None:
        both = np.array([draws["top"], draws["left"]])
        starts = (both * (free + 1)).astype(int)[np.newaxis]
    else:
        starts = np.tile(free // 2, (views, 1))
        if views > 1:
            along = int(width > height)
            starts[:, along] = np.rint(np.linspace(0, free[along], views))
    rows, columns = height / resized[0], width / resized[1]
    return [
        (
            *(left * columns, top * rows),
            *(min((left + crop) * columns, width), min((top + crop) * rows, height)),
        )
        for top, left in starts
    ]


def _draw(name, epoch, seed):
    """{name of a draw: float in [0, 1)}"""
    key = frame_draws.file_key(name)
    one = frame_draws.draw(len(_DRAWS), [_RESOLUTION], seed, [epoch], [key], [0])
    return dict(zip(_DRAWS, (one[0] / _RESOLUTION).tolist()))
