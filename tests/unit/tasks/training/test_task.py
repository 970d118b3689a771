from __future__ import annotations

from tasks.training.task import epoch_line, progress_of

EPOCH = {"event": "epoch", "epoch": 2, "epochs": 4, "loss": 0.5, "validation_auc": 0.9, "patches_per_s": 80.4}


def test_progress_goes_on_within_an_epoch() -> None:
    step = {"event": "step", "epoch": 2, "step": 5, "steps": 10, "patches_per_s": 12.3}
    assert progress_of(step, 4) == (37.5, "epoch 2/4, step 5/10, 12 patches/s")
    assert progress_of(EPOCH, 4) == (50.0, "epoch 2/4: loss 0.500, validation AUC 0.900, 80 patches/s")
    assert progress_of({"event": "queue", "job": "7", "reason": "Resources"}, 4) == (
        0.0,
        "Slurm job 7 waits (Resources)",
    )
    assert progress_of({"event": "trained"}, 4) is None


def test_an_epoch_tells_what_share_of_it_waited_for_input() -> None:
    assert epoch_line(EPOCH | {"seconds": 20.0, "waiting_s": 1.0}).endswith("80 patches/s, 5 % waiting for input")


def test_an_epoch_tells_which_shards_it_had_while_others_arrive() -> None:
    arriving = {"shards": 3, "shards_expected": 5, "validation_complete": False}
    assert epoch_line(EPOCH | arriving).endswith("0.900 (not all of its patches), 80 patches/s, 3 of 5 shards")
    assert epoch_line(EPOCH | {"shards": 5, "shards_expected": 5, "validation_complete": True}) == epoch_line(EPOCH)
    waiting = {"event": "waiting", "epoch": 3, "shards": 3, "why": "the last epochs need all shards"}
    assert progress_of(waiting, 4) == (50.0, "epoch 3/4 waits: the last epochs need all shards")
