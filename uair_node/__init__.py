"""The DICOM node: it receives series, keeps cases and delivers results. It does not import torch.

Research software, not a medical device.
"""

__version__ = "0.2.0"
