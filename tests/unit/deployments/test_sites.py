from __future__ import annotations

from pathlib import Path

import pytest

from deployments.sites import EMBEDDED_FOLDER, Site, load_site, load_sites, site_named
from tasks.errors import InputError

WORKSPACE = Path("/work space")
SSH = '[ssh]\nhost = "b"\nuser = "me"\nkey = "{key}"\nknown_hosts = "{known_hosts}"\n'


def write(folder: Path, text: str, name: str = "site.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_the_embedded_sites_are_two_folders_of_the_workspace() -> None:
    sites = load_sites(None, workspace=WORKSPACE)
    assert {name: site.root for name, site in sites.items()} == {
        "site-a": WORKSPACE / "site-a",
        "site-b": WORKSPACE / "site-b",
    }
    assert sites["site-a"].work_pool != sites["site-b"].work_pool
    assert sites["site-b"].horovod is not None
    assert sorted(path.name for path in EMBEDDED_FOLDER.iterdir()) == ["site-a.toml", "site-b.toml"]


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("here", "/work space/here"),
        ("../beside", "/beside"),
        ("/abs/x", "/abs/x"),
        ("~/camnet", "/home/me/camnet"),
        ("$CAMNET_TEST_SCRATCH/camnet", "/scratch/me/camnet"),
        ("/data/${CAMNET_TEST_SCRATCH}", "/data/scratch/me"),
    ],
)
def test_a_root_is_expanded_and_relative_to_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, expected: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("CAMNET_TEST_SCRATCH", "/scratch/me")
    path = write(tmp_path, f'name = "a"\nroot = "{root}"\n')
    assert load_site(path, workspace=WORKSPACE).root == Path(expected)


@pytest.mark.parametrize("root", ["$CAMNET_TEST_UNSET/camnet", "/data/${CAMNET_TEST_UNSET}", "~nobody-of-that-name/x"])
def test_what_cannot_be_expanded_is_refused(tmp_path: Path, root: str) -> None:
    path = write(tmp_path, f'name = "a"\nroot = "{root}"\n')
    with pytest.raises(InputError, match=r"variable that is not set|home directory") as caught:
        load_site(path, workspace=WORKSPACE)
    assert caught.value.subject == str(path)
    assert root in caught.value.cause


def test_keys_are_relative_to_the_site_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    text = 'name = "a"\nroot = "/r"\n' + SSH.format(key="keys/id_ed25519", known_hosts="~/.ssh/known_hosts")
    site = load_site(write(tmp_path / "sites", text), workspace=WORKSPACE)
    assert site.ssh is not None
    assert site.ssh.key == tmp_path / "sites" / "keys" / "id_ed25519"
    assert site.ssh.known_hosts == Path("/home/me/.ssh/known_hosts")
    assert (site.ssh.port, site.ssh.root, site.ssh.data_ports) == (22, None, None)


def test_a_site_may_have_ports_open_for_data(tmp_path: Path) -> None:
    text = 'name = "a"\nroot = "/r"\n' + SSH.format(key="k", known_hosts="h") + "data_ports = [50000, 50100]\n"
    site = load_site(write(tmp_path / "sites", text), workspace=WORKSPACE)
    assert site.ssh is not None
    assert site.ssh.data_ports == (50000, 50100)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "a"\nroot = "r"\npolcy = "open"\n', "unknown key 'polcy' (did you mean 'policy'?)"),
        ('name = "a"\nroot = "r"\npolicy = "closed"\n', "policy = 'closed': Input should be 'open' or 'resident'"),
        ('name = "A b"\nroot = "r"\n', "name = 'A b': String should match pattern"),
        ('name = "a"\n', "no key 'root', which is required"),
        ('name = "a"\nroot = "r"\n[horovod]\nslot = 2\n', "unknown key 'horovod.slot' (did you mean 'slots'?)"),
        ('name = "a"\nroot = "r"\n[dask]\nworker = 2\n', "unknown key 'dask.worker' (did you mean 'workers'?)"),
        (
            'name = "a"\nroot = "r"\n' + SSH.format(key="k", known_hosts="h") + "data_ports = [50100, 50000]\n",
            "has its first port above the last",
        ),
        (
            'name = "a"\nroot = "r"\n' + SSH.format(key="k", known_hosts="h") + "password = 1\n",
            "unknown key 'ssh.password' (known: data_ports, host, key, known_hosts, port, root, user)",
        ),
        ('name = "a"\nroot = "r"\n' + SSH.format(key="k", known_hosts="h") + "port = 0\n", "ssh.port = 0"),
    ],
)
def test_a_wrong_site_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_site(path, workspace=WORKSPACE)
    assert said in caught.value.cause
    assert caught.value.subject == str(path)


ODD = ["-oProxyCommand=reboot", "-l root", "a b", "h\\nProxyCommand reboot", "$(reboot)", ""]


@pytest.mark.parametrize("odd", ODD)
def test_what_a_program_would_take_for_an_option_is_no_host_and_no_user(tmp_path: Path, odd: str) -> None:
    ssh = '[ssh]\nhost = "{}"\nuser = "{}"\nkey = "k"\nknown_hosts = "h"\n'
    for table, said in (
        (ssh.format(odd, "me"), "ssh.host"),
        (ssh.format("h", odd), "ssh.user"),
        (f'[gridftp]\nurl = "sshftp://{odd}:22"\n', "gridftp.url"),
    ):
        path = write(tmp_path, f'name = "a"\nroot = "r"\n{table}')
        with pytest.raises(InputError, match=said):
            load_site(path, workspace=WORKSPACE)


@pytest.mark.parametrize("host", ["node-1.example.org", "10.0.0.1", "::1", "fe80::1", "login_2"])
def test_every_plain_host_is_accepted(tmp_path: Path, host: str) -> None:
    (tmp_path / "a.toml").write_text(
        f'name = "a"\nroot = "x"\n[ssh]\nhost = "{host}"\nuser = "DOMAIN\\\\jo.do-e@x"\nkey = "k"\nknown_hosts = "h"\n'
    )
    site = load_site(tmp_path / "a.toml", workspace=tmp_path)
    assert site.ssh is not None
    assert (site.ssh.host, site.ssh.user) == (host, "DOMAIN\\jo.do-e@x")


def test_a_root_of_several_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "a"\nroot = "x\\ny"\n')
    with pytest.raises(InputError, match="has control characters"):
        load_site(tmp_path / "a.toml", workspace=tmp_path)


def test_cluster_keywords_are_the_clusters_own(tmp_path: Path) -> None:
    text = 'name = "a"\nroot = "r"\n[dask]\ncluster = "dask_jobqueue.SLURMCluster"\n'
    text += '[dask.keywords]\nqueue = "cpu"\ncores = 8\n'
    site = load_site(write(tmp_path, text), workspace=WORKSPACE)
    assert site.dask.keywords == {"queue": "cpu", "cores": 8}


def test_two_sites_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one.toml", "two.toml"):
        write(tmp_path, 'name = "a"\nroot = "r"\n', name)
    with pytest.raises(InputError, match=r"names \['a'\] twice") as caught:
        load_sites(tmp_path, workspace=WORKSPACE)
    assert caught.value.subject == str(tmp_path)


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_site_files_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no site files"):
        load_sites(tmp_path / folder, workspace=WORKSPACE)


def test_a_site_that_does_not_exist_is_named_with_those_that_do() -> None:
    sites = load_sites(None, workspace=WORKSPACE)
    assert site_named(sites, "site-b") == sites["site-b"]
    with pytest.raises(InputError, match="no site is called 'site-c'") as caught:
        site_named(sites, "site-c")
    assert caught.value.remedy == "use one of site-a, site-b"


def test_a_site_travels_as_json() -> None:
    for site in load_sites(None, workspace=WORKSPACE).values():
        assert Site.model_validate_json(site.model_dump_json()) == site


def test_a_site_cannot_have_a_collection_only_and_an_account(tmp_path: Path) -> None:
    globus = '[globus]\ncollection = "6c54cade-bde5-45c1-bdea-f4bd71dba2cc"\ncredentials = "g.json"\nonly = true\n'
    site = 'name = "far"\nroot = "/far"\n'
    assert load_site(write(tmp_path, site + globus), workspace=WORKSPACE).globus is not None
    with pytest.raises(InputError, match="says only = true, but there is an"):
        load_site(write(tmp_path, site + globus + SSH.format(key="k", known_hosts="h")), workspace=WORKSPACE)
