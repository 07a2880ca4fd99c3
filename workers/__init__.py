"""The Celery app and the science: one round of the method per task."""
