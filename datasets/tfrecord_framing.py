"""How TFRecord files hold their records: length, checksum, data, checksum."""

import struct

import tensorflow as tf

HEADER = struct.Struct("<QI")  # length and its checksum
FRAMING = 16  # bytes around the data of a record: header, and the data's checksum


def walk(path):
    """Yields (position, length) of the records, by their headers alone.

    The last one may reach beyond the end of the file: then it breaks off. Ends at a
    header that does not match its checksum, after yielding its position and None.
    """
    with tf.io.gfile.GFile(path, "rb") as file:
        end, position = file.size(), 0
        while position < end:
            file.seek(position)
            header = file.read(HEADER.size)
            if len(header) < HEADER.size:
                yield position, end - position
                return
            length, checksum = HEADER.unpack(header)
            if masked_crc(header[:8]) != checksum:
                yield position, None
                return
            yield position, length
            position += length + FRAMING


def count(paths):
    """Number of records in some files, by their headers alone."""
    return sum(1 for path in paths for _ in walk(path))


def damaged_record(path, position):
    """Number of the record around that position, if it is there and cannot be read."""
    for number, (start, length) in enumerate(walk(path)):
        if start <= position < start + (length or 1) + FRAMING:
            try:
                for _ in tf.data.TFRecordDataset(path).skip(number).take(1):
                    return None
            except tf.errors.DataLossError:
                return number
            return None
    return None


def masked_crc(octets):
    """The checksum of TFRecord files, an int: CRC-32C, rotated and shifted.

    Args:
        octets: bytes; few, as this is plain Python.
    """
    crc = 0xFFFFFFFF
    for octet in octets:
        crc = _CRC_TABLE[(crc ^ octet) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_table():
    table = list(range(256))
    for _ in range(8):
        table = [one >> 1 ^ (0x82F63B78 if one & 1 else 0) for one in table]
    return table


_CRC_TABLE = _crc_table()
