"""What may leave a site. Every mover asks before it opens a connection or a file."""

from __future__ import annotations

from tasks.errors import PolicyRefusal
from transfer.manifest import PIXEL_KINDS
from transfer.model import Batch


def refuse_forbidden(batch: Batch) -> None:
    """Raise `PolicyRefusal` if the batch would take pixels away from a resident site.

    Weights, scores, reports, annotations and logs may leave; patches and thumbnails may not. Within one
    site everything may move.
    """
    if batch.source.policy != "resident" or batch.source.site == batch.destination.site:
        return
    forbidden = [entry for entry in batch.entries if entry.kind in PIXEL_KINDS]
    if forbidden:
        raise PolicyRefusal(
            f"holds pixels ({forbidden[0].kind}) and may not leave {batch.source.site} for {batch.destination.site}, "
            f"as {len(forbidden)} of the {len(batch.entries)} files of this batch",
            subject=forbidden[0].path,
            remedy=f"run the stages that need pixels at {batch.source.site}, or leave these files out",
        )
