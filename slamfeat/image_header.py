"""What the bytes of PNG and JPEG files say without decoding the picture."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# EXIF's orientation (tag 0x0112, one SHORT) in either byte order, and its values that keep width and height.
_ORIENTATION = re.compile(rb"\x01\x12|\x12\x01")
_UPRIGHT = re.compile(
    rb"\x01\x12\x00\x03\x00\x00\x00\x01\x00[\x01-\x04]|\x12\x01\x03\x00\x01\x00\x00\x00[\x01-\x04]\x00"
)


def header_size(path: Path) -> tuple[int, int] | None:
    """(W, H) in pixels from the header; None for other formats, a damaged header, or where EXIF may turn the picture.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(len(_PNG))
        try:
            return _png_size(file) if start == _PNG else _jpeg_size(file) if start.startswith(_JPEG) else None
        except struct.error:
            return None


def is_cut(data: bytes) -> bool:
    """Whether the end of a PNG or JPEG picture is missing."""
    # The marker is looked for in the second half, since an embedded JPEG thumbnail near the start ends with it too.
    half = data[len(data) // 2 :]
    return (data.startswith(_PNG) and _PNG_END not in half) or (data.startswith(_JPEG) and _JPEG_END not in half)


def _png_size(file: BinaryIO) -> tuple[int, int] | None:
    """Size in an open PNG's header; None where it holds EXIF or is damaged."""
    file.seek(len(_PNG))
    size = None
    while True:
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IHDR":
            width, height = struct.unpack(">II", file.read(8))
            size, length = (width, height), length - 8
        elif kind == b"eXIf":
            return None
        elif kind == _PNG_END:
            return size
        file.seek(length + 4, os.SEEK_CUR)


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """Size in an open JPEG's frame header (ITU-T T.81, B.2.2); None where EXIF may turn it, or it is damaged."""
    file.seek(len(_JPEG))
    while True:
        mark, kind, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF or kind == 0xFF or length < 2:
            return None
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            _, height, width = struct.unpack(">BHH", file.read(5))
            return (width, height) if height else None
        segment = file.read(length - 2)
        if kind == 0xE1 and segment.startswith(b"Exif"):
            tag = _ORIENTATION.search(segment)
            if tag and not _UPRIGHT.match(segment, tag.start()):
                return None
