"""What the far side could not do, in this side's errors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tasks.errors import PermanentFault
from transfer.store import ended_early


def fault_told(answer: Mapping[str, Any], subject: str) -> Exception | None:
    """Put an error of the far side into words (see `far_files.told`); None where `answer` is none."""
    match answer:
        case {"errno": int(number)}:
            return OSError(number, os.strerror(number), subject)
        case {"refused": "early", "where": int(where)}:
            return ended_early(subject, where)
        case {"refused": "link", "name": str(name)}:
            return PermanentFault(
                f"leads through the symbolic link {name!r}, which could point out of the root",
                subject=subject,
                remedy="replace the link by the folder or file itself",
            )
        case {"refused": "names"}:
            return PermanentFault(
                "has a second name (a hard link), under which it would be changed too",
                subject=subject,
                remedy="remove that file, and run the same command again",
            )
        case {"refused": _}:
            return PermanentFault("is no regular file", subject=subject, remedy="move away what stands under that name")
    return None
