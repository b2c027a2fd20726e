"""The process that decodes compressed pixels: run by path, it reads questions and writes answers until its input ends.

A question is two lengths, a JSON object and a code stream; an answer is the byte 1 and the pixels, or the byte 0.
"""

import json
import resource
import struct
import sys
import warnings
from typing import Any

import numpy as np
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

MEMORY = 3 * 1024**3
"""bytes of address space: a code stream that unpacks to more finds none"""


def answer(question: dict[str, Any], frame: bytes) -> bytes:
    """The pixels of a code stream, in this machine's byte order; raises what the libraries raise."""
    options: dict[str, Any] = {
        "rows": question["rows"],
        "columns": question["columns"],
        "samples_per_pixel": 1,
        "bits_allocated": question["allocated"],
        "bits_stored": question["bits"],
        "pixel_representation": question["signed"],
        "photometric_interpretation": question["meaning"],
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    found, _ = get_decoder(UID(question["syntax"])).as_array(_encapsulated(frame), raw=True, **options)
    kind = np.dtype(f"{'i' if question['signed'] else 'u'}{question['allocated'] // 8}")
    return found.astype(kind, copy=False).tobytes()


def main() -> None:
    """Answer until the input ends."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while lengths := questions.read(8):
        asked, size = struct.unpack("<II", lengths)
        question, frame = json.loads(questions.read(asked)), questions.read(size)
        try:
            plain = b"\1" + answer(question, frame)
        except Exception:  # noqa: BLE001 - whatever a decoder says of broken bytes, the answer is that it cannot
            plain = b"\0"
        answers.write(plain)
        answers.flush()


def _encapsulated(frame: bytes) -> bytes:
    """The code stream as one fragment behind an empty offset table (PS3.5 A.4)."""
    even = frame + b"\0" * (len(frame) % 2)
    return struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(even)) + even


if __name__ == "__main__":
    main()
