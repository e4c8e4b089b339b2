"""Whether a safetensors file is whole: its header says how long the file must be.

Source: safetensors, README, "Format": 8 bytes with the header's length, the header as JSON, then the tensors' bytes.
"""

import json
from typing import Any

from jobs.destinations.shelf import File, Shelf, beginning

LENGTH_BYTES = 8
# The format's own limit is 100 MB; a LoRA's header has some kilobytes.
LONGEST_HEADER = 32 * 1024 * 1024


def problem(shelf: Shelf, file: File) -> str:
    """What is wrong with the file, in a sentence; "" if it is whole. Raises what reading it raises."""
    length = int.from_bytes(beginning(shelf, file, LENGTH_BYTES), "little")
    if file.size_bytes < LENGTH_BYTES or not 2 <= length <= LONGEST_HEADER:
        return f"{file.key} is no safetensors file."
    if file.size_bytes < LENGTH_BYTES + length:
        return f"{file.key} is cut off: it ends within its own header."
    expected = _expected_bytes(beginning(shelf, file, LENGTH_BYTES + length)[LENGTH_BYTES:])
    if expected is None:
        return f"{file.key} is no safetensors file."
    expected += LENGTH_BYTES + length
    if file.size_bytes != expected:
        return f"{file.key} is not whole: it has {file.size_bytes} bytes, and its header says {expected}."
    return ""


def _expected_bytes(header: bytes) -> int | None:
    """How many bytes of tensors must follow the header; None for what is no header."""
    try:
        said: dict[str, Any] = json.loads(header)
        return max((int(entry["data_offsets"][1]) for name, entry in said.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
