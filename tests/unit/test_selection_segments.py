"""Segments that readers and other programs add: new lesions, other structures, and unclear segments."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code

from dicom_config import codes
from dicom_config.codes import SelectionClass
from dicom_config.modalities.profile import LIVER
from dicom_config.model import Verb
from tests.support.edited import TISSUE, returned, segment
from tests.support.offered import OfferedCase, candidate_labels, copied_case, offered_case
from uair_node.cases.tables import Case, Selection, SelectionOutcome
from uair_node.dicom.segment_kind import kind_of
from uair_node.dicom.segment_words import SegmentKind
from uair_node.results.notices import pending_notices
from uair_node.results.uids import lesion_uid
from uair_node.selection.partial_edits import answer_with_parts
from uair_node.storage.artifacts import load_candidates

NEW_LESION = 4
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
KIDNEY = Code("64033007", "SCT", "Kidney")
VESSEL = Code("59820001", "SCT", "Blood vessel")
HCC = Code("109841003", "SCT", "Liver cell carcinoma")
Added = tuple[np.ndarray, str, Code]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with offered_case(folder):
        return folder


@pytest.fixture
def offered(original: Path, tmp_path: Path) -> Iterator[OfferedCase]:
    with copied_case(original, tmp_path / "case") as made:
        yield made


def _ball() -> np.ndarray:
    """A place in the liver of all candidates, away from their lesions."""
    mask = np.zeros(candidate_labels(3).shape, bool)
    mask[11:13, 6:9, 4:7] = True
    return mask


def _kidney() -> np.ndarray:
    """Beside the liver, with a few voxels in it."""
    mask = np.zeros(candidate_labels(3).shape, bool)
    mask[6:9, 15:20, 8:12] = True
    return mask


def _written(
    offered: OfferedCase, added: Sequence[Added], *, tracked: bool = True, own: Sequence[int] = (1, 2, 3)
) -> Dataset:
    """Return candidate 3's targets `own`, and what was added to them."""
    labels, sources = candidate_labels(3), [dcmread(path) for path in offered.paths]
    masks, described = [], []
    for value in own:
        lesion = value - 1
        uid = lesion_uid(offered.case().digest, lesion) if lesion and tracked else None
        name, kind = (f"Tumour {lesion}", codes.LESION) if lesion else ("Liver", codes.LIVER)
        masks.append(labels == value)
        described.append(segment(len(masks), name, kind, uid))
    for mask, name, kind in added:
        masks.append(mask)
        described.append(segment(len(masks), name, kind))
    return returned(sources, np.stack(masks, -1).astype(np.uint8), described)


def _kept(offered: OfferedCase, row: Selection) -> np.ndarray:
    (kept,) = load_candidates(offered.context.store.absolute(row.artifact))
    return kept.labels


def _heading_and_text(offered: OfferedCase) -> str:
    with offered.context.database.transaction() as session:
        (notice,) = pending_notices(session, session.query(Case).one(), offered.context.settings)
    return f"{notice.heading}. {notice.text}"


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("Tumor", NEOPLASM),
        ("Lesion 5", codes.LESION),
        ("Lesion 1 (new)", TISSUE),
        ("HCC", TISSUE),
        ("Zyste", TISSUE),
        ("Segment 7", HCC),
    ],
)
def test_a_lesion_that_the_reader_adds_is_the_next_lesion(
    offered: OfferedCase, label: str, kind: Code
) -> None:
    row = offered.send(_written(offered, [(_ball(), label, kind)]), Verb.PICK)
    assert (row.outcome, row.mechanism, row.picked) == (SelectionOutcome.EFFECTIVE, "edited-seg", 3)
    expected = candidate_labels(3)
    expected[_ball()] = NEW_LESION
    np.testing.assert_array_equal(_kept(offered, row), expected)
    assert row.sentence.startswith("New lesion 3: segment 4")
    assert row.sentence in _heading_and_text(offered)


def test_two_lesions_added_to_a_candidate_get_two_numbers(offered: OfferedCase) -> None:
    other = np.roll(_ball(), -8, axis=0)
    row = offered.send(_written(offered, [(_ball(), "Tumor", NEOPLASM), (other, "Cyst", TISSUE)]), Verb.PICK)
    kept = _kept(offered, row)
    np.testing.assert_array_equal(kept == NEW_LESION, _ball())
    np.testing.assert_array_equal(kept == NEW_LESION + 1, other)


def test_a_new_lesion_that_touches_a_tracked_one_is_not_merged_with_it(offered: OfferedCase) -> None:
    lesion = candidate_labels(3) == 2
    mask = np.roll(lesion, 1, axis=2)
    row = offered.send(_written(offered, [(mask, "Tumor", NEOPLASM)]), Verb.PICK)
    kept = _kept(offered, row)
    assert set(np.unique(kept)) == {0, 1, 2, 3, NEW_LESION}
    np.testing.assert_array_equal(kept == NEW_LESION, mask)


@pytest.mark.parametrize("label", ["Segment 6", "Segment_2", "Foo Bar"])
def test_an_unspecified_segment_in_the_liver_of_an_edit_is_a_new_lesion_and_the_notice_says_so(
    offered: OfferedCase, label: str
) -> None:
    row = offered.send(_written(offered, [(_ball(), label, TISSUE)]), Verb.PICK)
    np.testing.assert_array_equal(_kept(offered, row) == NEW_LESION, _ball())
    named = 'segment 4 "' + label + '"' if label.startswith("Segment") else "segment 4"
    reason = "because it lies in the liver and has no code or name of another structure"
    told = f"New lesion 3: {named}, {reason}."
    assert row.sentence == told, "free text is not repeated"
    assert told in _heading_and_text(offered)


def test_an_edit_without_tracking_uids_is_known_by_a_target_that_it_kept(offered: OfferedCase) -> None:
    """Viewers exist that write no Tracking UIDs, and new segments as "Segment 6"."""
    row = offered.send(_written(offered, [(_ball(), "Segment 6", TISSUE)], tracked=False), Verb.PICK)
    np.testing.assert_array_equal(_kept(offered, row) == NEW_LESION, _ball())


def test_a_small_lesion_that_equals_one_of_ours_proves_no_edit(offered: OfferedCase) -> None:
    assert np.count_nonzero(candidate_labels(3) == 2) < 100
    seg = _written(offered, [(_ball(), "Segment 6", TISSUE)], tracked=False, own=[2])
    row = offered.send(seg, Verb.PICK)
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "edited-unrecognised")
    assert 'segment 2 "Segment 6"' in row.sentence


def test_an_object_that_names_a_candidate_is_an_edit_of_it(offered: OfferedCase) -> None:
    seg = _written(offered, [(_ball(), "Segment 6", TISSUE)], own=[])
    reference = Dataset()
    reference.ReferencedSOPClassUID = SelectionClass.SEGMENTATION
    reference.ReferencedSOPInstanceUID = offered.candidate(3).SOPInstanceUID
    seg.SourceImageSequence = [*seg.SourceImageSequence, reference]
    assert offered.send(seg, Verb.PICK).outcome == SelectionOutcome.HELD
    time.sleep(0.02)  # the quiet period of these tests
    assert answer_with_parts(offered.context) == 1
    (row,) = offered.selections()
    assert row.outcome == SelectionOutcome.EFFECTIVE
    kept = _kept(offered, row)
    np.testing.assert_array_equal(kept == NEW_LESION, _ball())
    assert {2, 3} <= set(np.unique(kept))


def test_an_unspecified_segment_of_another_writer_is_refused_and_named(offered: OfferedCase) -> None:
    seg = _written(offered, [(_ball(), "Segment 6", TISSUE)], own=[])
    row = offered.send(seg, Verb.PICK)
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "edited-unrecognised")
    assert 'segment 1 "Segment 6"' in row.sentence


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("Right kidney", KIDNEY),
        ("Tumor", KIDNEY),
        ("kidney_right", TISSUE),
        ("Kidney cyst", Code("367643001", "SCT", "Cyst")),
        ("Hepatic vein", TISSUE),
        ("Gallbladder", Code("T-63000", "SRT", "Gallbladder")),
    ],
)
def test_another_structure_is_left_out_and_said(offered: OfferedCase, label: str, kind: Code) -> None:
    row = offered.send(_written(offered, [(_kidney(), label, kind)]), Verb.PICK)
    assert (row.outcome, row.answer.words) == (SelectionOutcome.EFFECTIVE, "candidate 3")
    assert row.artifact == "", "liver and lesions are those of the candidate, voxel for voxel"
    assert row.sentence == f'Left out as another structure: segment 4 "{label}".'
    assert row.sentence in _heading_and_text(offered)


def test_a_name_that_may_be_the_organ_is_told_by_place_and_never_a_lesion(offered: OfferedCase) -> None:
    liver = candidate_labels(3) > 0
    liver[12, 6] = False
    lesions = [(candidate_labels(3) == n, f"Lesion {n - 1}", codes.LESION) for n in (2, 3)]
    whole = offered.send(_written(offered, [(liver, "Liver x", TISSUE), *lesions], own=[]), Verb.PICK)
    assert whole.outcome == SelectionOutcome.EFFECTIVE
    np.testing.assert_array_equal(_kept(offered, whole) > 0, liver)
    part = offered.send(_written(offered, [(_ball(), "Liver x", TISSUE)]), Verb.PICK)
    assert (part.outcome, part.code) == (SelectionOutcome.REFUSED, "edited-unrecognised")
    assert part.sentence.endswith(": segment 4."), "free text is not repeated"


@pytest.mark.parametrize(
    ("label", "kind"), [("Liver vessels", VESSEL), ("liver_vessels", TISSUE), ("Liver", VESSEL)]
)
def test_vessels_of_the_liver_alone_are_refused_and_delete_nothing(
    offered: OfferedCase, label: str, kind: Code
) -> None:
    tree = candidate_labels(3) > 0
    tree[:, ::2] = False
    row = offered.send(_written(offered, [(tree, label, kind)], own=[]), Verb.PICK)
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "edited-unrecognised")
    assert f'segment 1 "{label}"' in row.sentence


def test_the_liver_of_another_writer_deletes_no_lesions(offered: OfferedCase) -> None:
    liver = candidate_labels(3) > 0
    liver[12] = False
    seg = _written(offered, [(liver, "Liver", codes.LIVER)], own=[])
    assert offered.send(seg, Verb.PICK).outcome == SelectionOutcome.HELD
    time.sleep(0.02)  # the quiet period of these tests
    assert answer_with_parts(offered.context) == 1
    (row,) = offered.selections()
    kept = _kept(offered, row)
    np.testing.assert_array_equal(kept > 0, liver)
    assert {2, 3} <= set(np.unique(kept))
    assert row.sentence == "The object is not an edit of a candidate. So lesions that the object lacks stay."


def test_an_edit_may_delete_lesions(offered: OfferedCase) -> None:
    assert offered.send(_written(offered, [], own=[1, 2]), Verb.PICK).outcome == SelectionOutcome.HELD
    time.sleep(0.02)  # the quiet period of these tests
    assert answer_with_parts(offered.context) == 1
    (row,) = offered.selections()
    assert set(np.unique(_kept(offered, row))) == {0, 1, 2}


def _item(
    label: str,
    kind: Code = TISSUE,
    *,
    region: Code | None = None,
    modifier: Code | None = None,
    category: Code | None = None,
    part_of_region: Code | None = None,
) -> Dataset:
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel = 1, label
    item.SegmentedPropertyTypeCodeSequence = [_code(kind)]
    if modifier:
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            _code(modifier)
        ]
    if category:
        item.SegmentedPropertyCategoryCodeSequence = [_code(category)]
    if region:
        item.AnatomicRegionSequence = [_code(region)]
    if part_of_region:
        item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_code(part_of_region)]
    return item


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


RIGHT = Code("24028007", "SCT", "Right")
LEFT_LOBE = Code("1", "99SITE", "Lobe, left")
ORGAN = Code("113343008", "SCT", "Organ")
PRIVATE = Code("5", "99TOTALSEG", "liver")


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (_item("Kidney", codes.LIVER), SegmentKind.ORGAN),
        (_item("x", Code("T-62000", "SRT", "Leber")), SegmentKind.ORGAN),
        (_item("x", Code("T-62000", "SNM3", "Liver")), SegmentKind.ORGAN),
        (_item("x", Code("7197", "FMA", "Liver")), SegmentKind.ORGAN),
        (_item("x", PRIVATE), SegmentKind.ORGAN),
        (_item("x", Code("113343008", "SCT", "Organ"), region=codes.LIVER), SegmentKind.ORGAN),
        (_item("Liver", codes.LIVER, modifier=RIGHT), SegmentKind.OTHER),
        (_item("Liver", KIDNEY), SegmentKind.OTHER),
        (_item("Liver", region=KIDNEY), SegmentKind.OTHER),
        (_item("Lesion 1", codes.LESION, region=Code("T-71000", "SRT", "Kidney")), SegmentKind.OTHER),
        (_item("Liver", category=Code("260787004", "SCT", "Physical object")), SegmentKind.OTHER),
        (_item("Gallbladder", codes.LESION), SegmentKind.LESION),
        (_item("Segment 1", NEOPLASM, region=codes.LIVER), SegmentKind.LESION),
        (_item("x", Code("M-80003", "SRT", "Neoplasm, malignant")), SegmentKind.LESION),
        (_item("x", modifier=codes.LESION), SegmentKind.LESION),
        (_item("x", codes.LIVER, modifier=NEOPLASM), SegmentKind.LESION),
        (_item("x", Code("181268008", "SCT", "Entire liver")), SegmentKind.ORGAN),
        (_item("x", Code("8993003", "SCT", "Lebervene")), SegmentKind.OTHER),
        (_item("x", Code("T-48810", "SRT", "Vena porta")), SegmentKind.OTHER),
        (_item("Liver", Code("29092000", "SCT", "Vein"), region=codes.LIVER), SegmentKind.OTHER),
        (_item("Liver", region=Code("8993003", "SCT", "Hepatic vein")), SegmentKind.OTHER),
        (_item("Lesion 1", region=Code("12738006", "SCT", "Brain")), SegmentKind.OTHER),
        (_item("x", ORGAN, region=Code("818981001", "SCT", "Abdomen")), SegmentKind.UNSPECIFIED),
        (_item("x", ORGAN, region=codes.LIVER, part_of_region=RIGHT), SegmentKind.OTHER),
        (_item("Liver", codes.LIVER, region=codes.LIVER, part_of_region=LEFT_LOBE), SegmentKind.OTHER),
        (_item("x", codes.LESION, region=codes.LIVER, part_of_region=RIGHT), SegmentKind.LESION),
        (_item("x", codes.LESION, region=Code("T-D4000", "SRT", "Abdomen")), SegmentKind.LESION),
        (
            _item("x", codes.LESION, region=Code("416775004", "SCT", "Chest, Abdomen, Pelvis")),
            SegmentKind.LESION,
        ),
        (_item("x", codes.LESION, region=Code("818983003", "SCT", "Abdomen")), SegmentKind.LESION),
        (_item("x", codes.LESION, region=Code("83908009", "SCT", "Abdominal wall")), SegmentKind.OTHER),
        (_item("x", region=codes.LIVER), SegmentKind.UNSPECIFIED),
        (_item("x", region=Code("818981001", "SCT", "Abdomen")), SegmentKind.UNSPECIFIED),
    ],
)
def test_codes_and_regions_decide_before_words(item: Dataset, kind: SegmentKind) -> None:
    assert kind_of(item, LIVER) == kind


WORDS = {
    SegmentKind.ORGAN: "Liver|LIVER_1|Leber|foie|hígado|fegato|Leberparenchym|Liver with lesions"
    "|Non-tumorous liver|Liver segmentation|Leber Segmentierung|Liver (AI)|liver_mask.nii.gz|Whole liver"
    "|Foie sain|Fígado|Wątroba|Печень|肝臓|Liver w/o lesions|Liver-GTV|Liver minus GTV"
    "|Leber mit Tumor|Liver and tumor",
    SegmentKind.LESION: "Tumor|tumeur|Liver tumor|Cyst|HCC|Lebermetastase|Läsion|hepatic cyst"
    "|liver lesion segment 6|GTV|Liver mets|Met 3|Laesion|Metástasis|nódulo|tümör|Raumforderung|iCCA|LR-5"
    "|肝腫瘍|опухоль|Lesion near portal vein|HCC next to hepatic vein|Gallengangskarzinom|Cholangiocarcinoma"
    "|Tumor with necrosis|fat-containing lesion|calcified lesion|liver metastasis and tumor",
    SegmentKind.OTHER: "liver_vessels|LiverVessels|Hepatic vein|Lebervenen|Lebergefäße|Gallenblase"
    "|gallbladder|Spleen|portal vein and splenic vein|liver segment 6|left lobe of liver|kidney_right"
    "|Kidney cyst|PTV|Tumor thrombus|Liver surface|liver capsule|Future liver remnant|Liver bounding box"
    "|Non-liver|outside the liver|extrahepatic tumor|Liver dose|Ablation zone|PVTT"
    "|Leberpforte|S6 liver|肝静脈"
    "|脾臓|Nierenzyste",
    SegmentKind.PERHAPS_ORGAN: "Liver ROI|right liver|Liver x|hemi liver|Liver 6|Leber Meyer",
    SegmentKind.UNSPECIFIED: "Segment 6|Segment_2|Segment VI|Segmentation|?|Foo|generated"
    "|Lung metastasis|Label 3"
    "|Segment 6 - copy|Segmento 2|ROI 1|S1",
}
_EACH = [(kind, label) for kind, labels in WORDS.items() for label in labels.split("|")]


@pytest.mark.parametrize(("kind", "label"), _EACH)
def test_words_tell_where_codes_do_not(kind: SegmentKind, label: str) -> None:
    assert kind_of(_item(label), LIVER) == kind
