"""``python -m tasks.training JOB.json``: one rank, started by ``horovodrun``, ``mpirun`` or ``srun``."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from tasks.errors import ExitCode, InputError
from tasks.load_keras import load_keras
from tasks.training.gloo_place import gloo_place
from tasks.training.job import read_job
from tasks.training.processes import LAUNCHER_VARIABLE
from tasks.training.rank_error import RankError, leave_error
from tasks.training.roll_call import RollCall
from tasks.training.stop import Stop

_log = logging.getLogger("tasks.training")


def main(arguments: list[str]) -> int:
    """Run one rank; the exit code is one of `tasks.errors.ExitCode`."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format='{"time": "%(asctime)s", "level": "%(levelname)s", "message": "%(message)s"}',
    )
    if len(arguments) != 1:
        _log.error("usage: python -m tasks.training JOB.json")
        return ExitCode.USAGE
    try:
        job = read_job(Path(arguments[0]))
    except InputError as error:
        _log.error("%s", error)
        return error.exit_code
    roll = RollCall(job.roll_folder)
    stop = Stop(job.stop_file, job.errors_folder, os.environ.get(LAUNCHER_VARIABLE), roll)
    stop.listen()
    os.environ.update(gloo_place(os.environ))
    # Imported here: a usage error must not wait for TensorFlow, and ranks log before it is loaded.
    load_keras()
    import horovod.tensorflow as hvd

    from tasks.training.rank import run_rank

    hvd.init()
    rank = hvd.rank()
    try:
        run_rank(job, stop)
    except BaseException as error:
        _log.exception("rank %d ends", rank)
        ended_by = RankError.of(error, rank)
        leave_error(job.errors_folder, ended_by)
        roll.ends(rank)
        # Not sys.exit: Horovod's and MPI's exit handlers wait for the other ranks, who wait for this one.
        logging.shutdown()
        os._exit(ended_by.exit_code)
    roll.ends(rank)
    hvd.shutdown()
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
