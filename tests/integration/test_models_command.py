"""``camnet models`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.training.card import write_card
from tests.services.camnet_cli import camnet
from tests.services.sample_report import partly_validated_card, sample_card


def test_models_are_compared_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    for name, card in (("fold-0", sample_card()), ("fold-1", partly_validated_card())):
        (tmp_path / name).mkdir()
        write_card(tmp_path / name / "card.json", card)
    done = camnet("models", tmp_path)
    assert (done.code, done.errors) == (0, "")
    head, *lines = done.output.splitlines()
    assert head.split()[:9] == [
        "model",
        "architecture",
        "epoch",
        "split",
        "centre",
        "patients",
        "patches",
        "tumour",
        "AUC",
    ]
    assert len(lines) == 2 * 7
    assert [line.split()[3:5] for line in lines[7:10]] == [["validation,", "incomplete"]] * 3
    auc = sample_card().metrics[0].auc
    assert auc is not None
    assert lines[0].split()[:9] == [
        *(str(tmp_path / "fold-0"), "MobileNetV2", "8/10", "validation", "all", "8", "4,000", "2,006"),
        f"{auc.value:.3f}",
    ]
    (tmp_path / "fold-1" / "card.json").write_text("{")
    partial = camnet("models", tmp_path / "fold-0", tmp_path / "fold-1", "--json")
    told = json.loads(partial.output)
    assert [model["folder"] for model in told["models"]] == [str(tmp_path / "fold-0")]
    assert told["models"][0]["quality"][0]["auc"]["value"] == auc.value
    assert [failure["subject"] for failure in told["failures"]] == [str(tmp_path / "fold-1" / "card.json")]
    assert (partial.code, partial.error["error"]) == (3, "PartialResult")
