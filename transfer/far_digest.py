r"""Digests files where they lie. Sent to the far side as text: standard library of Python 3.6, no imports of ours.

It reads requests ``UPTO LENGTH\n`` and a path of LENGTH bytes from standard input:

- UPTO 0: open the file and begin its digest.
- UPTO n: go on with the digest up to byte n. No answer, so that requests may be sent ahead.
- UPTO -1: go on to the end of the file (from the start, unless it was begun) and answer ``HEX SIZE\n``, or
  ``! ERRNO\n`` where the file cannot be read.
- UPTO -2: close the file, so that the disk gets it back when it is removed, and answer ``! 0\n``.
"""

import hashlib
import os
import stat
import sys
from typing import BinaryIO

GREETING = b"camnet-digest/1\n"
BLOCK_BYTES = 1 << 20


class Digest:
    """The digest of one open file, as far as it has come."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.content = hashlib.sha256()
        self.size = 0
        self.file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        if not stat.S_ISREG(os.fstat(self.file).st_mode):
            os.close(self.file)
            raise OSError(22, "no regular file")

    def advance(self, upto: int) -> None:
        """Go on to that byte, or to the end of the file where it is negative or beyond."""
        while upto < 0 or self.size < upto:
            step = BLOCK_BYTES if upto < 0 else min(BLOCK_BYTES, upto - self.size)
            block = os.read(self.file, step)
            if not block:
                return
            self.content.update(block)
            self.size += len(block)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until they end."""
    answers.write(GREETING)
    answers.flush()
    begun = None  # type: Digest | None
    while True:
        head = requests.readline(64).split()
        if len(head) != 2:
            return
        upto, path = int(head[0]), requests.read(int(head[1]))
        if begun is not None and (begun.path != path or upto in (0, -2)):
            os.close(begun.file)
            begun = None
        answer = "! 0\n"
        try:
            if upto != -2:
                begun = begun or Digest(path)
                begun.advance(upto)
                answer = f"{begun.content.hexdigest()} {begun.size}\n"
        except OSError as error:
            answer = f"! {error.errno or 5}\n"
        if upto < 0:
            answers.write(answer.encode())
            answers.flush()
            if begun is not None:
                os.close(begun.file)
                begun = None


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
