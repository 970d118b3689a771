from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tasks.errors import PermanentFault
from tasks.hdf5 import new_hdf5
from tests.services.small_disk import needs_root, small_disk

REPOSITORY = Path(__file__).resolve().parents[2].parent
DISK_KIB = 64


def write(path: Path, blocks: int, block_kib: int) -> None:
    with new_hdf5(path) as file:
        data = file.create_dataset("data", (0,), maxshape=(None,), chunks=(block_kib << 10,), dtype="uint8")
        for block in range(1, blocks + 1):
            data.resize(block * (block_kib << 10), axis=0)
            data[-(block_kib << 10) :] = block


def test_the_file_is_ordinary_hdf5_under_its_final_name(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", 5, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file["data"][:].tolist() == np.repeat(np.arange(1, 6), 8 << 10).tolist()


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    def fail(file: h5py.File) -> None:
        file["data"] = np.ones(10)
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"), new_hdf5(tmp_path / "a.h5") as file:
        fail(file)
    assert list(tmp_path.iterdir()) == []


@needs_root
@pytest.mark.parametrize("free_kib", range(0, DISK_KIB, 4))
def test_wherever_the_disk_is_full_it_is_named_and_the_file_is_closed(tmp_path: Path, free_kib: int) -> None:
    # Unmounting, at the end of the block, fails when a file is still open.
    with small_disk(tmp_path / "disk", DISK_KIB) as disk:
        (disk / "in the way").write_bytes(bytes((DISK_KIB - free_kib) << 10))
        with pytest.raises(PermanentFault, match="No space left"):
            write(disk / "a.h5", 64, 1)
        assert [path.name for path in disk.iterdir()] == ["in the way"]


@needs_root
@pytest.mark.parametrize("free_kib", [4, 12])
def test_a_process_survives_a_full_disk(tmp_path: Path, free_kib: int) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom tasks.errors import PermanentFault\n"
        "from tasks.hdf5 import new_hdf5\n"
        "try:\n"
        "    with new_hdf5(Path(sys.argv[1])) as file:\n"
        "        for number in range(100):\n"
        "            file[str(number)] = number\n"
        "except PermanentFault as fault:\n"
        "    print(fault.cause)\n"
    )
    with small_disk(tmp_path / "disk", free_kib) as disk:
        command = [sys.executable, "-c", code, str(disk / "a.h5")]
        ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, "cannot be written (No space left on device)")
