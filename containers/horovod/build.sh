#!/usr/bin/env bash
# Builds Horovod for the TensorFlow that is installed in a virtual environment, and installs it there.
#
#   containers/horovod/build.sh VENV
#
# The wheel is kept in ${CAMNET_CACHE:-~/.cache/camnet}/horovod and reused for the same TensorFlow,
# Python, MPI and patch. HOROVOD_GPU_OPERATIONS=NCCL in the environment builds for GPUs (CUDA needed).
# CAMNET_WITHOUT_MPI=1 builds with Gloo alone.
set -euo pipefail

VERSION=0.28.1
SDIST_SHA256=92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
patch_file=$here/horovod-$VERSION-keras3.patch
python=${1:?usage: build.sh VENV}/bin/python

[ "$("$python" -c 'import importlib.metadata as m; print(m.version("tensorflow_cpu"))' 2>/dev/null ||
     "$python" -c 'import importlib.metadata as m; print(m.version("tensorflow"))' 2>/dev/null)" ] || {
  echo "build.sh: no TensorFlow in $1; install camnet[train] first" >&2; exit 2; }
if [ "${CAMNET_WITHOUT_MPI:-0}" = 1 ]; then
  mpi=none
else
  command -v mpicxx >/dev/null || {
    echo "build.sh: no mpicxx (Debian: libopenmpi-dev openmpi-bin); or set CAMNET_WITHOUT_MPI=1" >&2; exit 2; }
  mpi=$(mpirun --version | head -n 1)
fi

# Whatever changes the binary is part of the cache key.
key=$({ "$python" -c 'import sys, importlib.metadata as m
print(sys.implementation.cache_tag, sys.platform)
for name in ("tensorflow_cpu", "tensorflow"):
    try: print(name, m.version(name))
    except m.PackageNotFoundError: pass'
  uname -m; echo "$mpi" "$SDIST_SHA256" "${HOROVOD_GPU_OPERATIONS:-cpu}"; cat "$patch_file" "${BASH_SOURCE[0]}"
} | sha256sum | cut -c1-16)
cache=${CAMNET_CACHE:-$HOME/.cache/camnet}/horovod/$VERSION-$key

if ! compgen -G "$cache/horovod-$VERSION-*.whl" >/dev/null; then
  work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
  echo "building Horovod $VERSION (about 4 minutes on 2 cores); log: $cache.log" >&2
  mkdir -p "$(dirname "$cache")"
  {
    "$python" -m pip download --quiet --no-deps --no-binary horovod --no-build-isolation -d "$work" "horovod==$VERSION"
    echo "$SDIST_SHA256  $work/horovod-$VERSION.tar.gz" | sha256sum --check --strict
    tar -C "$work" --no-same-owner -xf "$work/horovod-$VERSION.tar.gz"
    patch -d "$work/horovod-$VERSION" -p1 <"$patch_file"
    export HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1
    if [ "$mpi" = none ]; then export HOROVOD_WITHOUT_MPI=1; else export HOROVOD_WITH_MPI=1; fi
    # Only CMake 4 reads it: Horovod's bundled Gloo asks for compatibility with CMake 2.8.
    export CMAKE_POLICY_VERSION_MINIMUM=3.5
    # -s strips debug information: a 1 MB wheel instead of 16 MB.
    export MAKEFLAGS=${MAKEFLAGS_HOROVOD:--j$(nproc)} LDFLAGS="${LDFLAGS:-} -Wl,-s"
    "$python" -m pip wheel --quiet --no-deps --no-build-isolation -w "$work/wheel" "$work/horovod-$VERSION"
  } >"$cache.log" 2>&1 || { tail -n 30 "$cache.log" >&2; echo "build.sh: Horovod did not build; whole log: $cache.log" >&2; exit 1; }
  # The folder appears last, by one rename: a build that was cut off leaves no half wheel in the cache.
  mkdir "$cache.$$"; cp "$work"/wheel/horovod-*.whl "$cache.$$/"
  rm -rf "$cache"; mv "$cache.$$" "$cache"
fi
"$python" -m pip install --quiet --no-deps --force-reinstall "$cache"/horovod-"$VERSION"-*.whl
