"""Small videos in which each frame's brightness tells its number."""

import struct
from fractions import Fraction

import av
import numpy as np

FIRST, STEP = 8, 4  # grey levels of frame 0, and from each frame to the next
MOST = 60  # frames that can be told apart
_TICKS = 1000  # a second, of videos with times
_CODECS = {".mp4": "libx264", ".mkv": "libx264", ".avi": "mpeg4", ".webm": "libvpx"}
# ((a, b), (c, d)): a pixel (x, y), y downward, is shown at (ax + cy, bx + dy).
TURNS = {
    "a quarter clockwise": ((0, 1), (-1, 0)),
    "a half": ((-1, 0), (0, -1)),
    "a quarter back": ((0, -1), (1, 0)),
    "left to right": ((-1, 0), (0, 1)),
    "upside down": ((1, 0), (0, -1)),
    "about the diagonal": ((0, 1), (1, 0)),
}


def write(
    path, frames=40, *, rate=25, size=(64, 48), times=None, codec=None, paint=None
):
    """Writes a video.

    Args:
        path: `Path`; its suffix chooses container and codec.
        frames: int.
        rate: int or Fraction, frames a second.
        size: (width, height).
        times: list of int in milliseconds in place of `rate`.
        codec: str.
        paint: callable, uint8 `[height, width, 3]` and the frame's number -> what is
            shown in place of it.

    Returns:
        str, the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec or _CODECS[path.suffix], rate=rate)
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        stream.bit_rate = 4_000_000
        base = Fraction(1, _TICKS) if times else 1 / Fraction(rate)
        stream.codec_context.time_base = base
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), FIRST + STEP * number, np.uint8)
            if paint is not None:
                picture = paint(picture, number)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = times[number] if times else number
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def numbers(clip):
    """Which frames a clip has: list of int.

    Args:
        clip: uint8 `[frames, height, width, 3]`.
    """
    levels = np.asarray(clip, np.float64).mean(axis=(1, 2, 3))
    found = (levels - FIRST) / STEP
    assert np.abs(found - np.rint(found)).max() < 0.35, levels
    return np.rint(found).astype(int).tolist()


def turn(path, kind):
    """Lets an mp4 file say that it is to be shown turned, by a key of `TURNS`."""
    octets = bytearray(open(path, "rb").read())
    box = octets.index(b"tkhd")
    matrix = box + 4 + 4 + 20 + 16  # version 0
    (a, b), (c, d) = TURNS[kind]
    one = 1 << 16
    shown = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    octets[matrix : matrix + 36] = struct.pack(">9i", *shown)
    open(path, "wb").write(octets)


def cut_off(path, share):
    """Shortens a file to a share of its bytes."""
    octets = open(path, "rb").read()
    open(path, "wb").write(octets[: int(share * len(octets))])


def blot(path, number):
    """Overwrites a frame's bytes with zeros, in a video that has them in order."""
    with av.open(path) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        place, size = packets[number].pos, packets[number].size
    found = bytearray(open(path, "rb").read())
    found[place : place + size] = bytes(size)
    open(path, "wb").write(found)
