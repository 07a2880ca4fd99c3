"""Names, numbers and colours that a department sees."""

from itertools import product

import pytest
from highdicom.color import CIELabColor
from pydicom.sr.codedict import codes

from dicom_config import codes as ours

ROUNDS = range(1, 100)


@pytest.mark.parametrize("colour", [ours.LIVER_COLOUR, *ours.LESION_COLOURS], ids=lambda c: c.name)
def test_cielab_is_the_same_colour_as_rgb(colour: ours.Colour) -> None:
    assert CIELabColor.from_rgb(*colour.rgb).value == colour.cielab


def test_no_colour_is_used_twice() -> None:
    palette = [ours.LIVER_COLOUR, *ours.LESION_COLOURS]
    assert len({c.rgb for c in palette}) == len(palette)


def test_lesion_colours_repeat_after_the_last() -> None:
    assert ours.lesion_colour(1) == ours.LESION_COLOURS[0]
    assert ours.lesion_colour(len(ours.LESION_COLOURS) + 1) == ours.LESION_COLOURS[0]
    with pytest.raises(ValueError, match="from 1"):
        ours.lesion_colour(0)


def test_concepts_are_those_of_the_standard() -> None:
    assert codes.SCT.Liver == ours.LIVER
    assert codes.SCT.Lesion == ours.LESION
    assert codes.cid7150.AnatomicalStructure == ours.ANATOMICAL_STRUCTURE
    assert codes.cid7150.MorphologicallyAbnormalStructure == ours.MORPHOLOGICALLY_ABNORMAL
    assert codes.DCM.ProcessingEquipment == ours.PROCESSING_EQUIPMENT
    assert codes.cid7162.ArtificialIntelligence == ours.ARTIFICIAL_INTELLIGENCE


def test_series_numbers_never_collide() -> None:
    numbers = [ours.series_number(r, k) for r, k in product(ROUNDS, range(1, 5))]
    numbers += [ours.series_number(r, 1, final=True) for r in ROUNDS]
    assert len(set(numbers)) == len(numbers)
    assert ours.series_number(1, 3) == 9013


def test_first_sixteen_characters_tell_candidates_apart() -> None:
    heads = [ours.series_description(r, k, "most inclusive")[:16] for r, k in product(ROUNDS, range(1, 5))]
    heads.append(ours.series_description(3, 2, "most inclusive", final=True)[:16])  # a case has one
    assert len(set(heads)) == len(heads)
    labels = [
        ours.content_label(r, k, final=final) for r, k, final in product(ROUNDS, range(1, 5), (False, True))
    ]
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= 16


def test_descriptions_have_the_documented_form() -> None:
    assert ours.content_label(1, 3) == "UAIR R1C3"
    assert ours.content_label(3, 2, final=True) == "UAIR FINAL R3C2"
    assert ours.series_description(1, 3, "most inclusive") == "UAIR R1C3 most inclusive"
    final = ours.series_description(3, 2, "most inclusive", final=True)
    assert final == "UAIR FINAL, most inclusive, round 3"
    long = "lesion 11 wider, lesion 12 tighter, sure lesions only"
    final = ours.series_description(10, 2, long, final=True)
    assert final == "UAIR FINAL, lesion 11 wider, lesion 12 tighter, round 10", "its round stays"
    assert len(ours.series_description(1, 3, "x" * 90)) == 64
    assert ours.series_description(1, 3, "größte\\") == "UAIR R1C3 gr??te?"


@pytest.mark.parametrize(("round_number", "k"), [(0, 1), (1, 0), (1, 5)])
def test_positions_outside_the_protocol_are_refused(round_number: int, k: int) -> None:
    with pytest.raises(ValueError, match="count from 1"):
        ours.series_number(round_number, k)
