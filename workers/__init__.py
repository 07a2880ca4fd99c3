"""The workers: the Celery application, its jobs, and the segmentation method."""
