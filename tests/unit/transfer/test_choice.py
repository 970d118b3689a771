from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks.errors import InputError, PolicyRefusal
from transfer.choice import choose
from transfer.ledger import LedgerRow
from transfer.model import Endpoint, Features, Policy, SshAccount

ACCOUNT = SshAccount(host="b", user="u", key=Path("k"), known_hosts=Path("h"))
THERE = Endpoint(site="site-b", root="/b", ssh=ACCOUNT)
MB = 10**6


def here(policy: Policy = "open") -> Endpoint:
    return Endpoint(site="site-a", root="/a", policy=policy)


def features(*protocols: str) -> list[Features]:
    return [Features(protocol=one, parallel=True, resumes=True, encrypted=one != "fdt") for one in protocols]


def row(protocol: str, megabits_per_s: float, size_bytes: int, **changes: object) -> LedgerRow:
    facts = {
        "start": "2026-01-01T00:00:00.000+00:00",
        "run": "r",
        "source": "site-a",
        "destination": "site-b",
        "protocol": protocol,
        "path": "x",
        "streams": 1,
        "file_bytes": size_bytes,
        "wire_bytes": size_bytes,
        "wire_seconds": size_bytes * 8 / 1e6 / megabits_per_s,
        "outcome": "done",
    }
    return LedgerRow.model_validate(facts | changes)


@pytest.fixture(autouse=True)
def every_program_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)


def test_without_measurements_the_best_by_nature_is_taken_and_the_others_are_named() -> None:
    found = choose(here(), THERE, features("scp", "sftp", "streams"))
    assert found.protocol == "streams"
    assert found.why == "streams, because site-b is reached over SSH; sftp, scp would do too"


def test_what_was_faster_over_this_link_for_such_files_is_taken() -> None:
    rows = [row("scp", 800, 100 * MB)] * 3 + [row("streams", 500, 100 * MB)] * 3 + [row("streams", 5000, MB)] * 9
    found = choose(here(), THERE, features("scp", "streams"), rows, file_bytes=[90 * MB, 120 * MB, 1])
    assert found.protocol == "scp"
    assert found.why == "scp, because files of about 90 MB went over this link at 800 Mb/s (streams 500)"
    small = choose(here(), THERE, features("scp", "streams"), rows, file_bytes=[MB])
    assert small.protocol == "streams"


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "failed"},
        {"source": "site-c"},
        {"destination": "site-c"},
        {"wire_bytes": 1},
        {"startup_seconds": 1e6},
        {"verify_seconds": 1e6},
    ],
)
def test_rows_that_show_nothing_of_it_do_not_count(changes: dict[str, object]) -> None:
    rows = [row("scp", 800, 100 * MB, **changes)] * 3 + [row("streams", 500, 100 * MB)] * 3
    assert choose(here(), THERE, features("scp", "streams"), rows).protocol == "streams"


def test_two_rows_are_too_few() -> None:
    rows = [row("scp", 800, MB)] * 2 + [row("streams", 500, MB)] * 3
    assert choose(here(), THERE, features("scp", "streams"), rows).protocol == "streams"


def test_what_leaves_a_resident_site_is_encrypted() -> None:
    rows = [row("fdt", 800, MB)] * 3 + [row("scp", 500, MB)] * 3
    found = choose(here("resident"), THERE, features("fdt", "scp"), rows)
    assert (found.protocol, "encrypted" in found.why) == ("scp", True)
    assert choose(here(), THERE, features("fdt", "scp"), rows).protocol == "fdt"
    with pytest.raises(PolicyRefusal, match="would be read on the way"):
        choose(here("resident"), THERE, features("fdt"), rows)


def test_a_program_that_is_missing_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "globus-url-copy" else name)
    assert choose(here(), THERE, features("gridftp", "sftp")).protocol == "sftp"
    with pytest.raises(InputError, match="globus-url-copy is not on this machine"):
        choose(here(), THERE, features("gridftp"))


def test_ends_with_nothing_in_common_are_told_so() -> None:
    with pytest.raises(InputError, match="no common protocol"):
        choose(here(), THERE, [])
