"""lz4 frames. Level 0, no checksum: TCP has one, and lz4's own would cap the speed at a tenth."""

from typing import Final

import lz4.frame

from edgepod.wire.tensors import Buffer, WireError

LZ4: Final = "lz4"
IDENTITY: Final = "identity"
CODECS: Final = (LZ4,)
_WORTH: Final = 0.9
"""A frame is kept when it is at least this much smaller; under that, the reader's work is not paid for."""


def shrink(data: Buffer) -> bytes | None:
    """One lz4 frame, or None when it would save less than a tenth."""
    frame: bytes = lz4.frame.compress(data, compression_level=0, store_size=True)
    return frame if len(frame) <= len(data) * _WORTH else None


def expand(frame: Buffer, size: int) -> bytes:
    """Undo `shrink` for data known to be `size` bytes.

    Allocates no more than that, whatever size the frame declares. Raises WireError when the frame is damaged, holds more or
    less, or is followed by anything.
    """
    decoder = lz4.frame.LZ4FrameDecompressor()
    try:
        data: bytes = decoder.decompress(frame, max_length=size + 1)
    except (RuntimeError, ValueError, MemoryError, EOFError) as error:
        raise WireError(f"not an lz4 frame: {error}") from error
    if len(data) > size:
        raise WireError(f"the lz4 frame holds more than the {size} bytes of its tensor")
    if not decoder.eof or len(data) != size:
        raise WireError(f"the lz4 frame holds {len(data)} of the {size} bytes of its tensor")
    if decoder.unused_data:
        raise WireError(f"{len(decoder.unused_data)} bytes follow the lz4 frame")
    return data
