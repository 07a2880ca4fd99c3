"""Configuration of a site's operation: monitoring, logs, the shared store, retention."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from dicom_config.section import Section


class MonitoringSection(Section):
    """The monitoring server: ``/live``, ``/ready`` and ``/metrics`` over HTTP, without login.

    Its HTTP responses contain no patient data.
    """

    host: str = Field("127.0.0.1", description="address to listen on; the default answers this machine only")
    port: Annotated[int, Field(ge=0, le=65533)] = Field(
        0,
        description="port of the node; a gpu worker uses the next port, an io worker the one after; 0: "
        "no monitoring",
    )


class LogsSection(Section):
    """The log of a process, on standard error. It never contains patient data."""

    format: Literal["text", "json"] = Field("text", description="json: one JSON object for each line")


class StoreSection(Section):
    """The object store by which machines share files.

    If `url` is empty, then all machines share a data folder.
    """

    url: str = Field("", pattern="^(s3://[^/]+(/.*)?)?$", description="s3://bucket or s3://bucket/prefix")
    endpoint_url: str = Field("", description="URL of an S3-compatible server; empty: Amazon's")
    access_key: str = Field(
        "", description="empty: credentials of the environment (AWS_… variables, an instance's role)"
    )
    secret_key_file: Path | None = None


class Retention(Section):
    """The time for which the data of a case is kept after the case has ended."""

    files_days: PositiveFloat | None = Field(
        None, description="days for which slices and artifacts are kept; empty: for ever"
    )
    rows_days: PositiveFloat | None = Field(
        None,
        description="days for which the database rows are kept, at least as long as the files; "
        "empty: for ever",
    )


class RetentionSection(Section):
    """The times after which `uair tidy` deletes ended cases, by end state. Cases in other states stay."""

    accepted: Retention = Retention(files_days=90)
    rejected: Retention = Retention(files_days=14, rows_days=365)
    expired: Retention = Retention(files_days=14)
    superseded: Retention = Retention(files_days=14)
    failed: Retention = Field(
        Retention(files_days=90), description="a FAILED case becomes EXPIRED after this time"
    )
    loose_days: PositiveFloat | None = Field(
        30,
        description="days for files without a series or case: picks, own objects sent back, repetitions, "
        "refusals",
    )
    accesses_days: PositiveFloat | None = Field(
        None, description="days for the console's record of accesses; empty: for ever"
    )
