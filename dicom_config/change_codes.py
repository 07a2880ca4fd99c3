"""Codes in the report for changes since earlier studies.

They are codes of PS3.16 (CID 6144 to 6147). If PS3.16 has no suitable code, then this module defines its own
code.
"""

from __future__ import annotations

from pydicom.sr.coding import Code

CHANGE = Code("CHANGE", "99UAIR", "Change since the prior study")
FATES = {
    "matched": Code("MATCHED", "99UAIR", "Seen before"),
    "split": Code("SPLIT", "99UAIR", "Part of a lesion seen before"),
    "merged": Code("MERGED", "99UAIR", "Merged from lesions seen before"),
    "new": Code("NEW", "99UAIR", "New lesion"),
    "vanished": Code("VANISHED", "99UAIR", "No longer seen"),
}
VOLUME_BEFORE = Code("VOLUME_BEFORE", "99UAIR", "Volume in the prior study")
LONG_AXIS_BEFORE = Code("LONG_AXIS_BEFORE", "99UAIR", "Long axis in the prior study")
VOLUME_CHANGE = Code("VOLUME_CHANGE", "99UAIR", "Change of volume since the prior study")
DAYS = Code("DAYS_SINCE_PRIOR", "99UAIR", "Days since the prior study")
DAY = Code("d", "UCUM", "day")
SUM_NOW = Code("SUM_OF_DIAMETERS", "99UAIR", "Sum of long axes of target lesions")
SUM_BASELINE = Code("SUM_AT_BASELINE", "99UAIR", "Sum of long axes of target lesions at baseline")
SUM_NADIR = Code("SUM_AT_NADIR", "99UAIR", "Smallest sum of long axes of target lesions before")
RESPONSE = Code("112048", "DCM", "Current Response")
VOLUME_RESPONSE = Code("VOLUME_RESPONSE", "99UAIR", "Current response by volume")
METHOD = Code("112021", "DCM", "Response Evaluation Method")
RECIST = Code("126081", "DCM", "RECIST 1.1")
ROLE = Code("TARGET", "99UAIR", "Role in response evaluation")
TARGET = Code("112074", "DCM", "Target Lesion at Baseline")
RESPONSES = {
    "CR": Code("112041", "DCM", "Target Lesion Complete Response"),
    "PR": Code("112042", "DCM", "Target Lesion Partial Response"),
    "SD": Code("112044", "DCM", "Target Lesion Stable Disease"),
    "PD": Code("112043", "DCM", "Target Lesion Progressive Disease"),
    "NE": Code("NOT_EVALUABLE", "99UAIR", "No measurable lesion at baseline"),
}
