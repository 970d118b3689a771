#!/usr/bin/env bash
# Puts a machine in order for CamNet: system packages, a virtual environment, the pinned install, Horovod.
#
#   containers/setup.sh [--with-tests] [VENV]
#
# VENV is .venv by default. PYTHON names the interpreter (3.11 or newer). System packages are installed with
# apt-get where they are missing and we are root; otherwise the missing ones are listed and nothing is done.
# A second call with nothing changed does nothing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
extras=train
if [ "${1:-}" = --with-tests ]; then extras=train,dev; shift; fi
venv=${1:-$root/.venv}
python=${PYTHON:-python3}

fail() { printf 'setup: %s\n' "$1" >&2; exit 2; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$python is older than 3.11; name another one: PYTHON=/path/to/python3.11 make ..."

stamp=$(cat "$root"/pyproject.toml "$root"/constraints.txt "$root"/containers/setup.sh \
  "$root"/containers/horovod/* <("$python" -VV) | sha256sum | cut -c1-16)
for done in "$extras" train,dev; do
  if [ -e "$venv/.camnet-$done-$stamp" ] && [ -x "$venv/bin/camnet" ]; then exit 0; fi
done

missing=()
need() { # need PACKAGE COMMAND: the package that brings the command
  PATH=$PATH:/usr/sbin:/sbin command -v "$2" >/dev/null || missing+=("$1")
}
need g++ g++
need make make
need cmake cmake
need patch patch
need libopenmpi-dev mpicxx
need openmpi-bin mpirun
need openssh-client ssh
need openssh-server sshd
"$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
[ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || missing+=(python3-dev)
if [ "$extras" = train,dev ]; then
  need chromium chromium
  need slurm-wlm slurmctld
  need munge munged
  need rsync rsync
  need globus-gass-copy-progs globus-url-copy
  need globus-gridftp-server-progs globus-gridftp-server
  need openssl openssl
  fc-list 2>/dev/null | grep -q DejaVu || missing+=(fontconfig fonts-dejavu-core)
fi
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing system packages: ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    { apt-get update -qq && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
      { tail -n 20 "$log" >&2; fail "apt-get failed; whole log: $log"; }
    rm -f "$log"
  else
    fail "missing system packages (Debian names): ${missing[*]}. Install them, or ask your administrator, and call again"
  fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "setup: installing camnet[$extras] into $venv" >&2
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
pip install --quiet -c "$root/constraints.txt" setuptools wheel
pip install --quiet -c "$root/constraints.txt" --editable "$root[$extras]"
pip check >/dev/null || { pip check >&2; fail "the pinned versions contradict each other"; }
"$root/containers/horovod/build.sh" "$venv"
touch "$venv/.camnet-$extras-$stamp"
