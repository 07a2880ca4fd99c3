"""The configuration of a site's operation: monitoring, logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from dicom_config.section import Section


class MonitoringSection(Section):
    """The monitoring server: ``/live``, ``/ready``, ``/metrics`` over HTTP; no patient data, no login."""

    host: str = Field("127.0.0.1", description="other machines are answered only if this says so")
    port: Annotated[int, Field(ge=0, le=65533)] = Field(
        0, description="of the node; a gpu worker takes the next one, an io worker the one after; 0: none"
    )


class LogsSection(Section):
    """The log of a process, on standard error. It never has patient data."""

    format: Literal["text", "json"] = Field("text", description="json: one object a line")


class StoreSection(Section):
    """The store through which machines share files. Empty: one data folder for all machines."""

    url: str = Field("", pattern="^(s3://[^/]+(/.*)?)?$", description="s3://bucket, s3://bucket/prefix")
    endpoint_url: str = Field("", description="of an S3-compatible server; empty: Amazon's")
    access_key: str = Field("", description="empty: as the environment says (AWS_…, an instance's role)")
    secret_key_file: Path | None = None


class Retention(Section):
    """The time for which the data of a case is kept after the case has ended."""

    files_days: PositiveFloat | None = Field(None, description="slices and artifacts; empty: for ever")
    rows_days: PositiveFloat | None = Field(
        None, description="what the database knows of it, not before its files; empty: for ever"
    )


class RetentionSection(Section):
    """The cases that `uair tidy` deletes, by how they ended. Cases that go on or wait for a reader stay."""

    accepted: Retention = Retention(files_days=90)
    rejected: Retention = Retention(files_days=14, rows_days=365)
    expired: Retention = Retention(files_days=14)
    superseded: Retention = Retention(files_days=14)
    failed: Retention = Field(Retention(files_days=90), description="then a FAILED case is EXPIRED")
    loose_days: PositiveFloat | None = Field(
        30,
        description="what is part of no series or case: picks, own objects sent back, repetitions, refusals",
    )
    accesses_days: PositiveFloat | None = Field(
        None, description="the console's record of who looked at what; empty: for ever"
    )
