"""Annotations as the XML that ASAP opens."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

from tasks.slides.annotations import Annotations, Polygon, Role

CAMELYON16_GROUPS: Mapping[Role, str] = {"tumour": "_0", "hole": "_2"}
CAMELYON17_FIRST_GROUPS: Mapping[Role, str] = {"tumour": "metastases", "hole": "normal"}
CAMELYON17_GROUPS: Mapping[Role, str] = {"tumour": "Tumor", "hole": "Exclusion"}

_COLOUR = "#F4FA58"
_GROUP_COLOUR = "#64FE2E"


def to_asap_xml(annotations: Annotations, groups: Mapping[Role, str] = CAMELYON17_GROUPS) -> str:
    """Write outlines as ASAP XML.

    Parameters
    ----------
    annotations
        Outlines in level-0 pixels; coordinates are written with two decimals.
    groups
        Name of the group for each role.
    """
    lines = ['<?xml version="1.0"?>', "<ASAP_Annotations>", "\t<Annotations>"]
    for polygon in annotations.polygons:
        lines += _annotation(polygon, groups[polygon.role])
    lines += ["\t</Annotations>", "\t<AnnotationGroups>"]
    lines += [
        f'\t\t<Group Name={quoteattr(name)} PartOfGroup="None" Color="{_GROUP_COLOUR}">\n'
        "\t\t\t<Attributes />\n\t\t</Group>"
        for name in groups.values()
    ]
    return "\n".join([*lines, "\t</AnnotationGroups>", "</ASAP_Annotations>", ""])


def _annotation(polygon: Polygon, group: str) -> list[str]:
    return [
        f'\t\t<Annotation Name={quoteattr(polygon.name)} Type="Polygon" PartOfGroup={quoteattr(group)} '
        f'Color="{_COLOUR}">',
        "\t\t\t<Coordinates>",
        *(
            f'\t\t\t\t<Coordinate Order="{order}" X="{x:.2f}" Y="{y:.2f}" />'
            for order, (x, y) in enumerate(polygon.points_level0_px)
        ),
        "\t\t\t</Coordinates>",
        "\t\t</Annotation>",
    ]
