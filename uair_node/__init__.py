"""The DICOM node: receives series, keeps cases, delivers results. Knows nothing of torch.

Research software, not a medical device.
"""

__version__ = "0.2.0"
