"""The variety of phantoms: one `Setting` for each use, so that test sets differ from the training set.

All phantoms share a basic anatomy and basic densities. A setting adds variety to them. Examples are right
lobes that taper down along the body wall, and large tumours that bulge out of the liver. Other examples are
neighbouring organs with the liver's density, and readers who include the rim in a lesion.
"""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Setting:
    """The variety of phantoms for one use. Shares are probabilities. Values are drawn uniformly from ranges.

    Attributes
    ----------
    name
        The name in records.
    taper, stretch
        Share of livers whose right lobe tapers to a tip at its lower end, and the factor on the length of
        this lobe.
    left_reach
        Factor on the left lobe's extent to the left.
    nodular_mm
        Roughness of the liver's surface in addition to the usual roughness.
    half_width_mm
        Half width of the body.
    heart_drop_mm
        Distance in mm by which the heart is moved down, so that it rests on the diaphragm and the left lobe.
    few_lesions
        Share of patients without lesions. Other patients have 1 + Poisson(2.5) lesions, 8 at most.
    radius_mm
        Smallest and largest radius of a lesion.
    large
        Share of patients with a tumour of 2.2 to 5 cm radius at the capsule or under the dome.
    contrast_hu
        Range of a lesion's contrast in HU; None for a half-normal distribution with mostly weak contrasts.
    complex_look
        Share of lesions with a capsule, necrosis, or a mosaic of densities.
    margin_mm
        Depth of a reader's outline below the lesion's surface. A negative depth lies outside of the lesion.
    like_liver
        Probability that a neighbouring organ has about the liver's density.
    patches_hu
        Amplitude of geographic differences in the parenchyma (fatty change, perfusion).
    streaks_hu
        Amplitude of streaks, in the worst quarter of scans.
    ramp
        Part of the low frequencies that is removed from the noise, as by sharp reconstruction kernels.
    slice_mm
        Possible distances of slices in mm. If empty, then the phantom's size decides the distance.
    """

    name: str
    taper: float = 0.0
    stretch: Range = (1.0, 1.0)
    left_reach: Range = (1.0, 1.0)
    nodular_mm: Range = (0.0, 0.0)
    half_width_mm: Range = (130.0, 195.0)
    heart_drop_mm: Range = (0.0, 0.0)
    few_lesions: float = 0.0
    radius_mm: Range = (3.5, 45.0)
    large: float = 0.0
    contrast_hu: Range | None = None
    complex_look: float = 0.0
    margin_mm: Range = (0.0, 0.0)
    like_liver: float = 0.0
    patches_hu: Range = (0.0, 0.0)
    streaks_hu: Range = (0.0, 0.0)
    ramp: Range = (0.0, 0.0)
    slice_mm: tuple[float, ...] = ()

    @property
    def varied(self) -> bool:
        """Whether the setting adds variety."""
        return self != PLAIN


#: Clear cases, for the phantoms of the demonstration and the tests.
PLAIN = Setting("plain")

#: The setting on which networks are trained.
TRAINING = Setting(
    "training",
    taper=0.6,
    stretch=(1.0, 1.45),
    left_reach=(0.7, 1.35),
    nodular_mm=(0.0, 1.5),
    heart_drop_mm=(0.0, 35.0),
    few_lesions=0.12,
    radius_mm=(2.5, 45.0),
    large=0.25,
    complex_look=0.25,
    margin_mm=(-1.8, 0.3),
    like_liver=0.12,
    patches_hu=(0.0, 12.0),
    streaks_hu=(0.0, 14.0),
    ramp=(0.0, 0.7),
)

#: The setting for reported results. Shapes, contrasts, margins and noise have other ranges than in training.
TEST = Setting(
    "test",
    taper=0.8,
    stretch=(1.1, 1.55),
    left_reach=(0.6, 1.5),
    nodular_mm=(0.0, 2.5),
    half_width_mm=(145.0, 205.0),
    heart_drop_mm=(10.0, 40.0),
    few_lesions=0.15,
    radius_mm=(2.0, 50.0),
    large=0.35,
    contrast_hu=(14.0, 75.0),
    complex_look=0.4,
    margin_mm=(-1.2, 0.0),
    like_liver=0.18,
    patches_hu=(0.0, 16.0),
    streaks_hu=(0.0, 20.0),
    ramp=(0.2, 0.9),
    slice_mm=(0.7, 1.0, 1.25, 1.6, 2.0, 2.5, 3.0, 3.0, 5.0, 5.0),
)
