"""Which protocol to take: what both ends offer, what the policy asks for, and what the link has shown."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from statistics import median

from tasks.artifacts import Record
from tasks.errors import InputError, PolicyRefusal
from transfer.ledger import LedgerRow
from transfer.model import Endpoint, Features

PREFERENCE = ("local", "streams", "gridftp", "globus", "sftp", "rsync", "scp", "fdt")
"""Best first, where nothing was measured: one's own wire before services, and programs with one connection last."""
_PROGRAMS = {"streams": "ssh", "gridftp": "globus-url-copy", "rsync": "rsync", "scp": "scp"}
_LEAST_ROWS = 3
_SIZE_FACTOR = 4.0


class Choice(Record):
    """A protocol and the reason for it, in one line."""

    protocol: str
    why: str


def choose(
    source: Endpoint,
    destination: Endpoint,
    offered: Sequence[Features],
    rows: Iterable[LedgerRow] = (),
    *,
    file_bytes: Sequence[int] = (),
) -> Choice:
    """Choose one of the protocols that both ends offer.

    A resident site's files travel encrypted or within this machine. Of what is left, the one with the highest
    median rate is taken, counted from the start of the program to the verified digest, over files of about this
    size that went between these two sites; where fewer than two protocols were measured (3 files each), the
    first of `PREFERENCE`.

    Parameters
    ----------
    offered
        Features of the movers that could be made for these ends.
    rows
        Ledgers that may know the link.
    file_bytes
        Sizes of the files that are to be moved; none: of any size.

    Raises
    ------
    InputError
        Nothing is offered, or the programs for it are not on this machine.
    PolicyRefusal
        Nothing of what is offered may carry a resident site's files.
    """
    ends = f"{source.site} → {destination.site}"
    if not offered:
        raise InputError(
            "both ends offer no common protocol", subject=ends, remedy="add [ssh] to one of the site files"
        )
    resident = source.policy == "resident" and source.site != destination.site
    fit = [one for one in offered if one.encrypted or one.protocol == "local" or not resident]
    if not fit:
        raise PolicyRefusal(
            f"{source.site} is resident, and {', '.join(one.protocol for one in offered)} would be read on the way",
            subject=ends,
            remedy="add [ssh] to one of the site files",
        )
    able = [one for one in fit if shutil.which(_PROGRAMS.get(one.protocol, "sh"))]
    if not able:
        missing = ", ".join(sorted({_PROGRAMS[one.protocol] for one in fit}))
        raise InputError(f"{missing} is not on this machine", subject=ends, remedy="install it, or add [ssh] to a site")
    names = sorted((one.protocol for one in able), key=PREFERENCE.index)
    about_bytes = median(file_bytes) if file_bytes else None
    link = [row for row in rows if (row.source, row.destination) == (source.site, destination.site)]
    rates = _rates(link, about_bytes, names)
    if len(rates) > 1:
        best = max(rates, key=lambda name: rates[name])
        about = "files" if about_bytes is None else f"files of about {about_bytes / 1e6:.3g} MB"
        others = ", ".join(f"{name} {rate:.0f}" for name, rate in sorted(rates.items()) if name != best)
        return Choice(
            protocol=best,
            why=f"{best}, because {about} went over this link at {rates[best]:.0f} Mb/s ({others})",
        )
    remote = [end.site for end in (source, destination) if end.ssh]
    reached = f"{' and '.join(remote)} is reached over SSH" if remote else _no_account(source, destination, names[0])
    also = f"; {', '.join(names[1:])} would do too" if len(names) > 1 else ""
    policy = ", and what leaves a resident site is encrypted" if resident and len(fit) < len(offered) else ""
    return Choice(protocol=names[0], why=f"{names[0]}, because {reached}{policy}{also}")


def _no_account(source: Endpoint, destination: Endpoint, name: str) -> str:
    ends = f"{source.site} and {destination.site}"
    return f"{ends} are folders of this machine" if name == "local" else f"{ends} both offer it"


def _rates(rows: Iterable[LedgerRow], about_bytes: float | None, names: Sequence[str]) -> dict[str, float]:
    """Give median Mb/s by protocol, from start-up to verified, of files of about that size."""
    measured: dict[str, list[float]] = {name: [] for name in names}
    for row in rows:
        seconds = row.startup_seconds + row.wire_seconds + row.verify_seconds
        alike = about_bytes is None or about_bytes / _SIZE_FACTOR <= row.file_bytes <= about_bytes * _SIZE_FACTOR
        whole = row.outcome == "done" and row.wire_bytes == row.file_bytes > 0 and row.wire_seconds > 0
        if row.protocol in measured and alike and whole:
            measured[row.protocol].append(row.file_bytes * 8 / 1e6 / seconds)
    return {name: median(found) for name, found in measured.items() if len(found) >= _LEAST_ROWS}
