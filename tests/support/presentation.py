"""Presentation states (GSPS) with graphics: by highdicom, and with the fields that Weasis writes.

Weasis 4 (its class PrSerializer) writes an annotation item for each layer, without a Referenced Image
Sequence. All its graphics are in pixels. A length is the polyline of its shape. A label is a text with a
bounding box and no anchor. An arrow is a text whose anchor is shown. It has the units of its bounding
box only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom.pr import GrayscaleSoftcopyPresentationState
from highdicom.pr.content import GraphicAnnotation, GraphicLayer, GraphicObject, TextObject
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_config.codes import SelectionClass
from tests.support.edited import reread
from tests.support.selections import new_uid

Pixel = tuple[float, float]
_LAYER = GraphicLayer("MARKS", 1)


def presentation_state(
    image: Dataset,
    graphics: Sequence[tuple[str, Sequence[Pixel]]],
    *,
    texts: Sequence[TextObject] = (),
    units: str = "PIXEL",
    images: Sequence[Dataset] = (),
) -> Dataset:
    """Return a presentation state by highdicom: graphics (type, points) on `image`, or on all of `images`."""
    shown = list(images) or [image]
    objects = [GraphicObject(kind, np.asarray(points, float), units=units) for kind, points in graphics]
    annotation = GraphicAnnotation(shown, _LAYER, graphic_objects=objects, text_objects=list(texts))
    return reread(
        GrayscaleSoftcopyPresentationState(
            referenced_images=shown,
            series_instance_uid=new_uid(),
            series_number=7,
            sop_instance_uid=new_uid(),
            instance_number=1,
            manufacturer="Other",
            manufacturer_model_name="Viewer",
            software_versions="1",
            device_serial_number="1",
            content_label="MARKS",
            graphic_layers=[_LAYER],
            graphic_annotations=[annotation],
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
    )


def turned(state: Dataset, rotation: int, *, flip: bool, area: tuple[Pixel, Pixel]) -> Dataset:
    """Give a presentation state a rotation (degrees, clockwise), a flip, and a displayed area (1-based)."""
    (shown,) = state.DisplayedAreaSelectionSequence
    shown.DisplayedAreaTopLeftHandCorner = [int(value) for value in area[0]]
    shown.DisplayedAreaBottomRightHandCorner = [int(value) for value in area[1]]
    state.ImageRotation, state.ImageHorizontalFlip = rotation, "Y" if flip else "N"
    return state


def weasis_state(
    image: Dataset,
    graphics: Sequence[tuple[str, Sequence[Pixel]]],
    *,
    labels: Sequence[tuple[str, Pixel, Pixel]] = (),
    arrows: Sequence[tuple[str, Pixel]] = (),
) -> Dataset:
    """Return a presentation state for one image, as Weasis writes it.

    Parameters
    ----------
    graphics
        Type and points (column, row).
    labels
        Text and the corners of its box.
    arrows
        Text and the place that it points to.
    """
    layer, annotation = Dataset(), Dataset()
    layer.GraphicLayer, layer.GraphicLayerOrder = "MEASURE", 0
    layer.GraphicLayerRecommendedDisplayCIELabValue = [63607, 30585, 58055]
    layer.GraphicLayerDescription = "Measurements"
    annotation.GraphicLayer = "MEASURE"
    annotation.GraphicObjectSequence = [_graphic(kind, points) for kind, points in graphics]
    annotation.TextObjectSequence = [
        *(_text(text, start, end) for text, start, end in labels),
        *(_arrow(text, tip) for text, tip in arrows),
    ]
    state = _of_image(image)
    state.SeriesDescription, state.SeriesNumber = "Weasis GSPS", 999
    state.ContentLabel, state.ContentDescription = "GSPS", "Description"
    state.GraphicLayerSequence, state.GraphicAnnotationSequence = [layer], [annotation]
    return reread(state)


def _of_image(image: Dataset) -> Dataset:
    """A presentation state of one image in its study."""
    state, series, reference = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPClassUID = image.SOPClassUID
    reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedImageSequence = image.SeriesInstanceUID, [reference]
    state.ReferencedSeriesSequence = [series]
    state.SOPClassUID, state.SOPInstanceUID = SelectionClass.PRESENTATION_STATE, new_uid()
    state.StudyInstanceUID, state.SeriesInstanceUID = image.StudyInstanceUID, new_uid()
    state.PatientID, state.PatientName, state.Modality = image.PatientID, image.PatientName, "PR"
    state.file_meta = FileMetaDataset()
    state.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return state


def _graphic(kind: str, points: Sequence[Pixel]) -> Dataset:
    graphic, style = Dataset(), Dataset()
    graphic.GraphicAnnotationUnits, graphic.GraphicDimensions = "PIXEL", 2
    graphic.NumberOfGraphicPoints = len(points)
    graphic.GraphicData = [value for point in points for value in point]
    graphic.GraphicType, graphic.GraphicFilled = kind, "N"
    style.LineThickness = 1.0
    graphic.LineStyleSequence = [style]
    return graphic


def _text(text: str, start: Pixel, end: Pixel) -> Dataset:
    written = Dataset()
    written.BoundingBoxAnnotationUnits = "PIXEL"
    written.BoundingBoxTopLeftHandCorner, written.BoundingBoxBottomRightHandCorner = list(start), list(end)
    written.UnformattedTextValue = text
    return written


def _arrow(text: str, tip: Pixel) -> Dataset:
    written = _text(text, (tip[0] + 6.0, tip[1] + 6.0), (tip[0] + 12.0, tip[1] + 8.0))
    written.AnchorPoint, written.AnchorPointVisibility = list(tip), "Y"
    return written


def with_object(state: Dataset, **values: Any) -> Dataset:
    """Change attributes of the first graphic object."""
    graphic = state.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    for keyword, value in values.items():
        setattr(graphic, keyword, value)
    return state
