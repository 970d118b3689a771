"""What ``camnet doctor`` looks at."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from deployments.endpoints import SshEndpoint
from deployments.sites import Site
from flows.checkup_globus import check_globus
from flows.checkup_gridftp import check_gridftp
from flows.finding import Finding

_ENOUGH_BYTES = 5 * 10**9
_PACKAGES = ("camnet", "prefect", "prefect-dask", "dask-jobqueue", "globus-sdk", "paramiko", "openslide-python", "h5py")


def check_machine() -> list[Finding]:
    """Look at the software of this machine."""
    findings = [Finding(what="Python", found=sys.version.split()[0], good=sys.version_info >= (3, 11))]
    findings += [_package(name) for name in _PACKAGES]
    tensorflow = _package("tensorflow-cpu")
    findings.append(tensorflow if tensorflow.good else _package("tensorflow"))
    findings.append(_horovod())
    return findings


def check_site(site: Site) -> list[Finding]:
    """Look at a site as far as it can be seen from here."""
    findings = []
    if site.ssh is not None:
        findings += [_key(site.name, site.ssh.key), _known_host(site.name, site.ssh), _answers(site.name, site.ssh)]
    elif site.is_folder_here:
        findings.append(_space(site))
        if site.dask.cluster == "slurm" or (site.horovod and site.horovod.launcher == "slurm"):
            findings.append(_slurm(site))
    if site.globus is not None:
        findings += check_globus(site)
    if site.gridftp is not None:
        findings += check_gridftp(site.name, site.gridftp)
    return findings


def _package(name: str) -> Finding:
    try:
        return Finding(what=name, found=version(name), good=True)
    except PackageNotFoundError:
        return Finding(what=name, found="not installed", good=False)


def _horovod() -> Finding:
    if find_spec("horovod") is None:
        return Finding(what="horovod", found="not installed (containers/horovod/build.sh)", good=False)
    # In a process of its own: importing it starts TensorFlow, which prints and takes memory.
    question = (
        "import horovod, horovod.tensorflow as h, tensorflow as t;"
        "from horovod.tensorflow.util import to_tf_variable;"
        "print(horovod.__version__, 'for TensorFlow', t.__version__ + ':',"
        "'Gloo' if h.gloo_built() else '', 'MPI' if h.mpi_built() else '', 'NCCL' if h.nccl_built() else '',"
        "'with the Keras 3 patch')"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    answer = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding(what="horovod", found=f"does not import or lacks the Keras 3 patch: {last}", good=False)
    return Finding(what="horovod", found=" ".join(answer.stdout.strip().splitlines()[-1].split()), good=True)


def _space(site: Site) -> Finding:
    folder = next(path for path in (site.root, *site.root.parents) if path.exists())
    free_bytes = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    found = f"{site.root}: {free_bytes / 1e9:.0f} GB free" + ("" if writable else ", not writable")
    return Finding(what=f"{site.name} root", found=found, good=writable and free_bytes > _ENOUGH_BYTES)


def _slurm(site: Site) -> Finding:
    sbatch = shutil.which("sbatch")
    return Finding(what=f"{site.name} Slurm", found=sbatch or "sbatch is not on this machine", good=sbatch is not None)


def _key(name: str, key: Path) -> Finding:
    if not key.is_file():
        return Finding(what=f"{name} SSH key", found=f"{key} is not there", good=False)
    private = not key.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    return Finding(
        what=f"{name} SSH key", found=str(key) if private else f"{key} can be read by others: chmod 600", good=private
    )


def _known_host(name: str, ssh: SshEndpoint) -> Finding:
    import paramiko

    entry = ssh.host if ssh.port == 22 else f"[{ssh.host}]:{ssh.port}"
    known = ssh.known_hosts.is_file() and paramiko.HostKeys(str(ssh.known_hosts)).lookup(entry) is not None
    found = f"{entry} is {'' if known else 'not '}in {ssh.known_hosts}"
    return Finding(what=f"{name} host key", found=found, good=known)


def _answers(name: str, ssh: SshEndpoint) -> Finding:
    try:
        with socket.create_connection((ssh.host, ssh.port), timeout=5) as connection:
            connection.settimeout(5)
            banner = connection.recv(80).decode(errors="replace").strip()
    except OSError as error:
        return Finding(what=f"{name} SSH", found=f"{ssh.host}:{ssh.port} does not answer ({error})", good=False)
    return Finding(what=f"{name} SSH", found=f"{ssh.host}:{ssh.port} answers {banner!r}", good="SSH-" in banner)
