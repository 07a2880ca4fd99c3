"""Measure an earlier study that is only in the archive, from its final segmentation."""

from __future__ import annotations

from datetime import date, datetime

import numpy as np
from highdicom.seg import Segmentation
from pydicom.dataset import Dataset

from uair_node.context import Context
from uair_node.findings.measurements import measure
from uair_node.findings.record import tabulate
from uair_node.network.retrieve import latest_final
from uair_node.results.priors import Prior, contradict, earlier_segmentation, same_modality
from workers.measure.registration import Scan

_CANONICAL = ("H", "P", "L")


def archived_prior(context: Context, header: Dataset, today: date) -> tuple[Prior, Scan] | None:
    """Return the patient's last earlier study in the archive `results.prior_from`; None if there is none.

    The images of the earlier study are not fetched. So registration uses the livers' surfaces, and earlier
    densities are unknown.

    Parameters
    ----------
    header
        A header of the present series. It identifies the patient.
    today
        The day on which the present series was acquired.

    Raises
    ------
    TransientError
        The archive cannot be reached. The work item is tried again.
    """
    archive = context.settings.destination(context.settings.results.prior_from)
    if archive is None:
        return None
    found = latest_final(archive, str(header.get("PatientID") or ""), today)
    if found is None or contradict(header, found):
        return None
    source = found.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    if not same_modality(header.SOPClassUID, source.ReferencedSOPClassUID):
        return None
    scan = scan_of(found)
    tracking = {
        int(str(segment.SegmentLabel).split()[-1]): (str(segment.TrackingUID), str(segment.TrackingID))
        for segment in found.SegmentSequence
        if "TrackingUID" in segment
    }
    measured = measure(np.zeros(scan.labels.shape, np.int16), scan.labels, scan.spacing_mm)
    day = datetime.strptime(str(found.StudyDate), "%Y%m%d").date()
    series = str(found.ReferencedSeriesSequence[0].SeriesInstanceUID)
    findings = tabulate(measured, tracking)
    prior = Prior(
        case_id=0,
        day=day,
        series_uid=series,
        report_uid="",
        findings=findings,
        segmentation=earlier_segmentation(found),
    )
    return prior, scan


def scan_of(segmentation: Dataset) -> Scan:
    """Return the label volume of a segmentation that the node wrote, with canonical axes.

    The slices of the segmentation are kept. A lesion's segment label contains its number (`Lesion 3`). The
    liver's segment label has no number.
    """
    volume = Segmentation.from_dataset(segmentation).get_volume(combine_segments=False)
    turned = volume.to_patient_orientation(_CANONICAL)
    labels = np.zeros(turned.array.shape[:3], np.uint8)
    for index, segment in enumerate(segmentation.SegmentSequence):
        lesion = "TrackingUID" in segment
        value = 1 + int(str(segment.SegmentLabel).split()[-1]) if lesion else 1
        labels[turned.array[..., index] > 0] = value
    z, y, x = (float(s) for s in turned.spacing)
    return Scan(None, labels, (z, y, x))
