"""The folder for temporary files, and what is wrong with it in our words."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.errors import PermanentFault

_OF_THE_FOLDER = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT}


@contextmanager
def scratch_errors() -> Iterator[None]:
    """Name the folder when what the block writes there cannot be written; without that it looks like a site's fault.

    Raises
    ------
    PermanentFault
        The folder is full, read-only, of somebody else or gone.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_FOLDER:
            raise
        if tempfile.tempdir is None:  # none was found, which may be for want of descriptors
            os.close(os.open(os.devnull, os.O_RDONLY))
        raise PermanentFault(
            f"the folder for temporary files of this machine cannot be used ({os.strerror(error.errno)})",
            subject=tempfile.tempdir or "TMPDIR",
            remedy="free some space there, or set TMPDIR to another folder",
        ) from error
