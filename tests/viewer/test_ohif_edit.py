"""A reader paints in OHIF and stores the segmentation: what was on the screen is what we read.

OHIF writes a label map in RLE with codes of its own and without Tracking UIDs; only labels tell its segments.
"""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from dicom_config.codes import SelectionClass
from tests.support.ohif import OhifPage
from tests.support.peers import Orthanc
from tests.support.ports import wait_until
from tests.viewer.pictures import dice, drawn_labels
from tests.viewer.rounds import LESION, LESION_TRACKING_UID, LIVER, RoundInArchive
from uair_node.dicom.seg_reader import read_edited
from uair_node.dicom.segment_targets import KnownTargets

pytestmark = [pytest.mark.viewer, pytest.mark.integration]


def test_a_painted_candidate_comes_back_as_it_was_seen(
    orthanc: Orthanc, round_in_archive: RoundInArchive, page: OhifPage
) -> None:
    volume, before = round_in_archive.volume, round_in_archive.labels[0]
    page.open_study(round_in_archive.study_uid, "segmentation")
    page.load(round_in_archive.names[0])
    k = len(volume.slices) - page.position()
    left, top, width, height = page.canvas()
    page.paint([(left + width * x, top + height * 0.5) for x in (0.35, 0.4, 0.45)])
    seen = drawn_labels(page.steady_picture(), page.canvas(), volume.array[k])
    stored = set(orthanc.instances())
    page.store_segmentation()
    wait_until(lambda: len(orthanc.instances()) > len(stored), "the segmentation to be stored")
    (new,) = set(orthanc.instances()) - stored
    seg = pydicom.dcmread(io.BytesIO(orthanc.dicom(new)))
    assert seg.SOPClassUID == SelectionClass.LABEL_MAP_SEGMENTATION
    assert seg.file_meta.TransferSyntaxUID == RLELossless

    edited = read_edited(seg, volume, KnownTargets({LESION_TRACKING_UID: 1}, [before]))
    assert edited.label_of_segment == {1: LIVER, 2: LESION}
    changed = edited.labels != before
    assert changed[k].sum() > 20
    assert not np.delete(changed, k, axis=0).any()
    assert dice(edited.labels[k] == LIVER, seen == LIVER) > 0.95
