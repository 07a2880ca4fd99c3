"""Reads SEG by itkwasm-dicom: dcmqi and DCMTK compiled to WebAssembly."""

from common import answer_job
from itkwasm_dicom_wasi import read_segmentation


def _read(path):
    image, meta = read_segmentation(path)
    (group,) = meta["segmentAttributes"]
    segments = [
        (segment["labelID"], segment["SegmentLabel"], segment.get("TrackingUniqueIdentifier", ""))
        for segment in group
    ]
    return image.data, image.origin, image.spacing, image.direction, segments


answer_job(_read)
