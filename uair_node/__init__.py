"""The DICOM node: receives series, keeps cases, delivers results. It does not import torch.

Research software, not a medical device.
"""

__version__ = "0.2.0"
