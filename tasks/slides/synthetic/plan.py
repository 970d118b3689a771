"""Which slide belongs to which patient, and what it is to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.slides.annotations import Role
from tasks.slides.asap import CAMELYON16_GROUPS, CAMELYON17_FIRST_GROUPS, CAMELYON17_GROUPS
from tasks.slides.camelyon import Stage
from tasks.slides.synthetic.config import PATIENTS_A_CENTRE, SynthConfig

_GROUPS = (CAMELYON17_GROUPS, CAMELYON16_GROUPS, CAMELYON17_FIRST_GROUPS)
_STAGES: tuple[Stage, ...] = ("macro", "micro", "macro", "micro", "itc")
_PEN_EVERY, _PEN_FIRST = 4, 1
_BORDER_EVERY, _BORDER_FIRST = 4, 2


@dataclass(frozen=True)
class SlidePlan:
    """One slide to make.

    Attributes
    ----------
    index
        Position in the cohort; with the cohort's seed it seeds all of the slide's random numbers.
    name, patient, centre
        In CAMELYON17's numbering: centre = patient // 20.
    stage
        What the largest lesion is to be.
    groups
        Names of the annotation groups.
    pen_mark, black_border
        Whether the slide has them.
    """

    index: int
    name: str
    patient: int
    centre: int
    stage: Stage
    groups: Mapping[Role, str]
    pen_mark: bool
    black_border: bool


def plan_cohort(config: SynthConfig) -> list[SlidePlan]:
    """Deal slides to patients and stages to slides.

    Patients without any tumour come as far as the negative slides go, spread over the centres; the remaining
    negative slides are lymph nodes of patients with tumour.
    """
    stages = _stages(config)
    plans = []
    for index, stage in enumerate(stages):
        position, node = divmod(index, config.nodes_per_patient)
        centre = position % config.centres
        patient = centre * PATIENTS_A_CENTRE + position // config.centres
        plans.append(
            SlidePlan(
                index=index,
                name=f"patient_{patient:03}_node_{node}",
                patient=patient,
                centre=centre,
                stage=stage,
                groups=_GROUPS[index % len(_GROUPS)],
                pen_mark=index % _PEN_EVERY == _PEN_FIRST,
                black_border=index % _BORDER_EVERY == _BORDER_FIRST,
            )
        )
    return plans


def _stages(config: SynthConfig) -> list[Stage]:
    """One stage a slide, in the order of the slides."""
    negatives = round(config.slides * config.negative_fraction)
    patients = -(-config.slides // config.nodes_per_patient)
    sizes = [min(config.nodes_per_patient, config.slides - k * config.nodes_per_patient) for k in range(patients)]
    left = negatives
    free_of_tumour: set[int] = set()
    for patient in _spread(patients, config.centres):
        if sizes[patient] <= left and len(free_of_tumour) < patients - (negatives < config.slides):
            free_of_tumour.add(patient)
            left -= sizes[patient]
    stages: list[Stage] = []
    drawn = 0
    for patient, size in enumerate(sizes):
        for node in range(size):
            spare = left > 0 and node == size - 1 and size > 1
            if patient in free_of_tumour or spare:
                left -= patient not in free_of_tumour
                stages.append("negative")
            else:
                stages.append(_STAGES[drawn % len(_STAGES)])
                drawn += 1
    return stages


def _spread(patients: int, centres: int) -> list[int]:
    """Patients in the order in which they are made free of tumour: a chequerboard over the centres.

    Were one centre free of tumour and another not, its stain would give the answer away.
    """
    return sorted(range(patients), key=lambda position: (position % centres + position // centres + 1) % 2)
