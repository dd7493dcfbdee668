"""A glance at a protobuf file that reads a few bytes of it, so that a damaged file of gigabytes is refused at once."""

from __future__ import annotations

from typing import BinaryIO

_LONGEST_VARINT = 10


def fields_fill(stream: BinaryIO, size: int) -> bool:
    """Whether the fields of the outermost message end exactly where the file of ``size`` bytes does."""
    position = 0
    while position < size:
        stream.seek(position)
        header = stream.read(2 * _LONGEST_VARINT)
        key, used = _varint(header, 0)
        if key is None or key >> 3 == 0:
            return False
        match key & 7:
            case 0:  # a varint
                value, used = _varint(header, used)
                if value is None:
                    return False
                position += used
            case 1:  # eight bytes
                position += used + 8
            case 2:  # bytes with their length
                length, used = _varint(header, used)
                if length is None:
                    return False
                position += used + length
            case 5:  # four bytes
                position += used + 4
            case _:
                return False
    return position == size


def _varint(data: bytes, start: int) -> tuple[int | None, int]:
    """The number at ``start`` and the position after it, None where it does not end."""
    value = 0
    for count in range(_LONGEST_VARINT):
        if start + count >= len(data):
            return None, start
        byte = data[start + count]
        value |= (byte & 0x7F) << (7 * count)
        if not byte & 0x80:
            return value, start + count + 1
    return None, start
