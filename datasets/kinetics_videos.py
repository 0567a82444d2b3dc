"""Frames out of video files, by PyAV: in the order they are shown, by their times.

A video is read twice. The first time its packets are only counted, which takes some
milliseconds and tells when each frame is shown; the second time it is decoded, always
to its end, so that whether it is damaged does not depend on which frames are wanted.

Two things are damage. A file that breaks off or does not decode is an error, unless
what comes before is asked for. Pictures that look smeared (smeared_pictures.py) are a
guess at what happened before the file was written: they are used, and reported.
"""

import collections
import contextlib
import heapq

import numpy as np

from datasets import smeared_pictures
from datasets.record_errors import RecordError

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")

# Old AVI files give B-frames the times of their neighbours (packed bitstreams). Frames
# come in the right order nevertheless, so times are sorted, among so many frames.
_OUT_OF_ORDER = 16
# Seconds and frames by which a video may end before its container says it does.
_EARLY_SECONDS, _EARLY_FRAMES = 0.2, 2.5


def import_av():
    """PyAV, which only videos need.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError(
            "Reading videos needs PyAV: pip install 'ensemble-heads[recipes]'. "
            "TFRecords of frames (recipes/convert_kinetics.py) are read without it"
        ) from error
    return av


def read(path, plan_of, use_damaged=False):
    """The wanted frames of a video.

    Args:
        path: str.
        plan_of: callable, float `[frames]` sorted seconds -> object with `wanted`,
            those of these times that are wanted, sorted; and `cut`, a callable that is
            given each such frame, uint8 `[height, width, 3]` as it is to be shown.
        use_damaged: bool, take a damaged video for one that ends before its first
            damage. Otherwise it is an error.

    Returns:
        The plan; the list of what `cut` returned; and the `RecordError` of a damaged
        video that was used, or of a smeared one, or None.

    Raises:
        RecordError: no video, one without frames, or a damaged one.
        ImportError: PyAV is not installed.
    """
    times, damage = scan(path)
    if damage is None:
        try:
            plan, smeared = plan_of(times), []
            cuts = _pictures(_watched(_frames(path), smeared), path, plan)
            return plan, cuts, _smear(path, smeared)
        except _Damaged as error:
            damage = error.as_record_error()
    if not use_damaged:
        raise damage
    whole = np.array([time for time, _ in _frames_before_damage(path)])
    if not len(whole):
        raise damage
    plan = plan_of(whole)
    return plan, _pictures(_frames_before_damage(path), path, plan), damage


def scan(path):
    """When the frames of a video are shown, by its packets alone.

    Returns:
        float `[frames]`, seconds, sorted, at least one; and a `RecordError` where the
        file breaks off, otherwise None.

    Raises:
        RecordError: no video, or one without frames.
    """
    av, times, end, said = import_av(), [], 0.0, None
    with _opened(path) as (container, stream):
        mean = 1 / float(stream.average_rate or 25)
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue  # the last one, which only empties the decoder
                time = _seconds(packet, len(times) * mean)
                lasting = float((packet.duration or 0) * packet.time_base) or mean
                end = max(end, time + lasting)
                if not packet.is_discard:  # cut away by the container's edit list
                    times.append(time)
        except av.error.FFmpegError as error:
            said = f"one that breaks off after {end:.2f} seconds ({error.strerror})."
        declared = _declared_end(stream)
    if not times:
        text = "`video` must have at least one frame. Received: none."
        raise RecordError(path, None, "video", text)
    early = max(_EARLY_SECONDS, _EARLY_FRAMES * mean)
    if said is None and declared is not None and declared - end > early:
        said = f"one of {declared:.2f} seconds that breaks off after {end:.2f}."
    return np.sort(times), None if said is None else _damage(path, said)


class _Damaged(Exception):
    """A frame that cannot be decoded: path, seconds before it, what FFmpeg says."""

    def as_record_error(self):
        path, time, said = self.args
        return _damage(path, f"one damaged at {time:.2f} seconds ({said}).")


def _damage(path, said):
    text = f"`video` must be whole, as its file was written. Received: {said}"
    return RecordError(path, None, "video", text)


def _smear(path, times):
    """`RecordError` of a video with a smeared picture at this time; None without."""
    if not times:
        return None
    text = (
        "`video` must show whole pictures. Received: one smeared over its lower part "
        f"at {times[0]:.2f} seconds, as its source was damaged there."
    )
    return RecordError(path, None, "video", text)


@contextlib.contextmanager
def _opened(path):
    """Container and video stream of a file."""
    av = import_av()
    try:
        # Metadata that is no UTF-8 would be an error by default.
        container = av.open(path, metadata_errors="ignore")
    except av.error.FFmpegError as error:
        rule = "`video` must be a file that FFmpeg can open."
        text = f"{rule} Received: {error.strerror}."
        raise RecordError(path, None, "video", text) from None
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            text = "`video` must have a stream of pictures. Received: none."
            raise RecordError(path, None, "video", text)
        # Videos are decoded side by side, so that each needs one thread only.
        stream.codec_context.thread_count = 1
        yield container, stream


def _frames(path):
    """Yields (seconds, frame) as they are shown.

    Raises:
        _Damaged: after the last frame before the first damage.
    """
    with _opened(path) as (container, stream):
        yield from _in_order(_decoded(path, container, stream))


def _in_order(frames):
    """Gives the frames, which come in the right order, their times in order."""
    waiting, times, damage = collections.deque(), [], None
    try:
        for time, frame in frames:
            heapq.heappush(times, time)
            waiting.append(frame)
            if len(waiting) > _OUT_OF_ORDER:
                yield heapq.heappop(times), waiting.popleft()
    except _Damaged as error:
        damage = error
    while waiting:
        yield heapq.heappop(times), waiting.popleft()
    if damage is not None:
        raise damage


def _decoded(path, container, stream):
    """Yields (time stamp in seconds, frame) up to the first that is not whole."""
    av, count, last = import_av(), 0, 0.0
    mean = 1 / float(stream.average_rate or 25)
    try:
        for packet in container.demux(stream):
            for frame in packet.decode():
                last = _seconds(frame, count * mean)
                if frame.is_corrupt:
                    raise _Damaged(path, last, "a picture that is not whole")
                yield last, frame
                count += 1
    except av.error.FFmpegError as error:
        raise _Damaged(path, last, error.strerror) from None


def _watched(frames, smeared):
    """The (seconds, frame) pairs; the time of the first smeared one is put in a list.

    After that no more are looked at.
    """
    for time, frame in frames:
        if not smeared and smeared_pictures.is_smeared(smeared_pictures.luma_of(frame)):
            smeared.append(time)
        yield time, frame


def _frames_before_damage(path):
    with contextlib.suppress(_Damaged):
        yield from _frames(path)


def _pictures(frames, path, plan):
    """What the plan cuts out of the (seconds, frame) pairs that are nearest to it."""
    from av.video.reformatter import VideoReformatter

    to_rgb = VideoReformatter()
    wanted, found, before = plan.wanted, [], None

    def take(frame):
        picture = to_rgb.reformat(frame, format="rgb24").to_ndarray()
        found.append(plan.cut(_upright(picture, _display_matrix(frame))))

    for time, frame in frames:
        while len(found) < len(wanted) and wanted[len(found)] <= time:
            moment = wanted[len(found)]
            is_nearer = before is None or time - moment < moment - before[0]
            take(frame if is_nearer else before[1])
        before = time, frame
    if before is None:
        text = "`video` must have at least one frame. Received: none that is shown."
        raise RecordError(path, None, "video", text)
    while len(found) < len(wanted):
        take(before[1])
    return found


def _display_matrix(frame):
    """((a, b), (c, d)): the pixel (x, y) is shown at (ax + cy, bx + dy) and a shift."""
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return (1, 0), (0, 1)
    (a, b, _), (c, d, _), _ = np.frombuffer(bytes(found), np.int32).reshape(3, 3)
    return (a, b), (c, d)


def _upright(picture, matrix):
    """Turns a picture by quarters and mirrors it, as its display matrix says."""
    (a, b), (c, d) = matrix
    if abs(int(a)) < abs(int(b)):  # columns become rows
        picture, a, d = picture.swapaxes(0, 1), c, b
    picture = picture[:, ::-1] if a < 0 else picture
    picture = picture[::-1] if d < 0 else picture
    return np.ascontiguousarray(picture)


def _seconds(of, otherwise):
    """Time stamp of a packet or frame in seconds; some AVI files have `dts` only."""
    stamp = of.dts if of.pts is None else of.pts
    return otherwise if stamp is None else float(stamp * of.time_base)


def _declared_end(stream):
    """Seconds to the end of the stream, by its container's header, or None."""
    start = float((stream.start_time or 0) * stream.time_base)
    if stream.duration:
        lasting = float(stream.duration * stream.time_base)
        if stream.frames and stream.average_rate:
            # FFmpeg shortens the duration of an AVI file that is too short itself.
            lasting = max(lasting, float(stream.frames / stream.average_rate))
        return start + lasting
    tag = stream.metadata.get("DURATION", "")  # of Matroska: 00:00:10.500000000
    parts = tag.split(":")
    try:
        hours, minutes, seconds = map(float, parts)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds
