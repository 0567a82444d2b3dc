"""The bytes of a SequenceExample, as protocol buffers lay them out.

A feature list whose frames hold equally many bytes is a table of constant stride on
disk, so that single frames can be found by arithmetic. See "Encoding" in the protocol
buffers documentation, and example.proto and feature.proto of TensorFlow.
"""

BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3  # fields of `Feature`
CONTEXT, FEATURE_LISTS = 1, 2  # fields of `SequenceExample`


def varint(number):
    """bytes of a non-negative int."""
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def field(number, payload):
    """bytes of a field that holds bytes."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def named(key, payload):
    """bytes of an entry of one of the maps from names to messages."""
    return field(1, field(1, key.encode()) + field(2, payload))


def frame_prefix(size):
    """What stands before the `size` bytes of each frame of a feature list."""
    value = b"\x0a" + varint(size)
    bytes_list = b"\x0a" + varint(len(value) + size) + value
    return b"\x0a" + varint(len(bytes_list) + size) + bytes_list


def read_fields(data, start, end):
    """Yields (field number, start, end) of fields that hold bytes.

    Args:
        data: an object that gives ints by index, such as `mmap`.
        start, end: int, where a message lies in it.

    Raises:
        ValueError: other kinds of fields, or fields beyond the end.
    """
    while start < end:
        tag, start = read_varint(data, start, end)
        length, start = read_varint(data, start, end)
        if tag & 7 != 2 or start + length > end:
            raise ValueError("not a message of fields that hold bytes")
        yield tag >> 3, start, start + length
        start += length


def read_varint(data, start, end):
    """(int, where it ends)."""
    number = shift = 0
    while start < end and shift < 64:
        octet = data[start]
        number |= (octet & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if octet < 0x80:
            return number, start
    raise ValueError("not a number")
