"""A card that may leave a site which keeps its patients to itself."""

from __future__ import annotations

from tasks.training.card import ModelCard


def unnamed(card: ModelCard) -> ModelCard:
    """Give a card with numbers instead of the names of patients and shards, and without paths of files.

    A card without names stays as it is. Digests of shards stay: by them the site finds which files they were.
    """
    patients = sorted(
        {shard.patient for shard in card.shards} | {p for some in card.split_patients.values() for p in some}
    )
    number = {patient: f"patient-{index + 1:05}" for index, patient in enumerate(patients)}
    return card.model_copy(
        update={
            "shards": tuple(
                shard.model_copy(update={"name": f"shard-{index + 1:05}", "patient": number[shard.patient]})
                for index, shard in enumerate(card.shards)
            ),
            "split_patients": {
                split: tuple(number[patient] for patient in some) for split, some in card.split_patients.items()
            },
            "config": card.config.model_copy(
                update={"weights": None, "start_from": None, "stain_reference": None, "stain_reference_digest": None}
            ),
        }
    )
