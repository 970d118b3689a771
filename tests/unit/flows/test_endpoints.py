from __future__ import annotations

from pathlib import Path

import pytest

from deployments.sites import load_site
from flows.endpoints import endpoint, local_endpoint

GLOBUS = '[globus]\ncollection = "6c54cade-bde5-45c1-bdea-f4bd71dba2cc"\ncredentials = "g.json"\nroot = "/data"\n'


@pytest.mark.parametrize("only", [True, False])
def test_a_site_with_a_collection_only_is_a_folder_for_itself_alone(tmp_path: Path, only: bool) -> None:
    (tmp_path / "far.toml").write_text(f'name = "far"\nroot = "/far"\n{GLOBUS}only = {str(only).lower()}\n')
    site = load_site(tmp_path / "far.toml", workspace=tmp_path)
    there, itself = endpoint(site).globus, local_endpoint(site).globus
    assert there is not None
    assert itself is not None
    assert (there.only, itself.only, site.is_folder_here) == (only, False, not only)
    assert there.model_copy(update={"only": False}) == itself
    assert (str(there.collection), there.root) == ("6c54cade-bde5-45c1-bdea-f4bd71dba2cc", "/data")
    assert there.credentials == tmp_path / "g.json"


def test_an_account_leads_to_the_root_that_it_names(tmp_path: Path) -> None:
    ssh = '[ssh]\nhost = "b"\nuser = "me"\nkey = "k"\nknown_hosts = "h"\nroot = "/seen/by/me"\n'
    (tmp_path / "far.toml").write_text(f'name = "far"\nroot = "/far"\n{ssh}{GLOBUS}')
    site = load_site(tmp_path / "far.toml", workspace=tmp_path)
    assert (local_endpoint(site).root, local_endpoint(site).ssh) == ("/far", None)
    assert endpoint(site).root == "/seen/by/me"
    assert endpoint(site).globus is not None
    assert not site.is_folder_here
