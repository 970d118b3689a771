"""``camnet transfers``: what the ledgers of all sites say."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flows.commands.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, print_json
from tasks.errors import InputError

if TYPE_CHECKING:
    from transfer.ledger import LedgerRow

_SHOWN_ROWS = 20


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command()(transfers)


def transfers(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    sites: Annotated[Path | None, typer.Option("--sites", help="folder with site files; none: the embedded")] = None,
    ledgers: Annotated[list[Path] | None, typer.Option("--ledger", help="these ledgers instead of the sites'")] = None,
    site: Annotated[str | None, typer.Option("--site", help="from or to this site")] = None,
    run: Annotated[str | None, typer.Option("--run", help="of this run")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="over this protocol")] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", help="done, already or failed")] = None,
    since: Annotated[datetime | None, typer.Option("--since", help="started at or after this time (UTC)")] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print the rows as CSV")] = False,
) -> None:
    """List attempts to move files, and sum them up by route; Mb/s are 10^6 bits a second."""
    from transfer.summary import route_totals

    if outcome not in (None, "done", "already", "failed"):
        raise InputError(f"no outcome is called {outcome!r}", remedy="use done, already or failed")
    wanted = {"run": run, "protocol": protocol, "outcome": outcome}
    rows = [row for row in _rows(ledgers, sites, workspace) if _matches(row, wanted, site, since)]
    if as_csv:
        _write_csv(rows)
        return
    totals = route_totals(rows)
    if as_json:
        print_json({"routes": [one.model_dump() for one in totals], "rows": [row.model_dump() for row in rows]})
        return
    console = Console(highlight=False)
    console.print(_table("route", [_route(one.model_dump()) for one in totals]))
    shown = rows[-_SHOWN_ROWS:]
    console.print(_table("attempt", [_attempt(row) for row in shown]))
    if len(rows) > len(shown):
        console.print(f"the last {len(shown)} of {len(rows)} attempts; --json or --csv give all")


def _rows(ledgers: list[Path] | None, sites: Path | None, workspace: Path) -> list[LedgerRow]:
    """Read the ledgers in the order of the attempts."""
    from deployments.sites import load_sites
    from transfer.ledger import Ledger

    for path in ledgers or ():
        if not path.is_file():
            raise InputError("is no file", subject=path, remedy="name a ledger.jsonl")
    if not ledgers:
        roots = [found.root for found in load_sites(sites, workspace=workspace.resolve()).values()]
        ledgers = sorted(path for root in roots for path in root.glob("*/ledger.jsonl"))
    rows = [row for path in ledgers for row in Ledger(path).read()]
    return sorted(rows, key=lambda row: row.start)


def _matches(row: LedgerRow, wanted: dict[str, str | None], site: str | None, since: datetime | None) -> bool:
    from datetime import UTC

    if site is not None and site not in (row.source, row.destination):
        return False
    if since is not None and datetime.fromisoformat(row.start) < since.replace(tzinfo=since.tzinfo or UTC):
        return False
    return all(value is None or getattr(row, name) == value for name, value in wanted.items())


def _write_csv(rows: Iterable[LedgerRow]) -> None:
    from transfer.ledger import LedgerRow

    writer = csv.DictWriter(sys.stdout, list(LedgerRow.model_fields), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(row.model_dump())


def _table(name: str, rows: list[dict[str, str]]) -> Table:
    table = Table(*(rows[0] if rows else [f"no {name}s"]))
    for row in rows:
        table.add_row(*row.values())
    return table


def _route(totals: dict[str, Any]) -> dict[str, str]:
    return {
        "from": totals["source"],
        "to": totals["destination"],
        "protocol": totals["protocol"],
        "files": f"{totals['files']:,}",
        "MB": f"{totals['file_bytes'] / 1e6:,.1f}",
        "median Mb/s": _number(totals["median_megabits_per_s"]),
        "all, Mb/s": _number(totals["aggregate_megabits_per_s"]),
        "failed": str(totals["failed_attempts"]),
        "sent again, MB": f"{totals['bytes_resent'] / 1e6:,.1f}",
    }


def _attempt(row: LedgerRow) -> dict[str, str]:
    return {
        "start": row.start[:19],
        "run": row.run,
        "from → to": f"{row.source} → {row.destination}",
        "protocol": row.protocol,
        "file": row.path,
        "MB": f"{row.file_bytes / 1e6:,.1f}",
        "Mb/s": row.flag or _number(row.megabits_per_s),
        "outcome": row.outcome if row.error is None else f"{row.outcome}: {row.error}",
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
