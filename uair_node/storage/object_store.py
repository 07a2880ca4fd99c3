"""Files shared through an S3-compatible object store (extra ``s3``); see `uair_node.storage.store.Remote`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dicom_config.errors import ConfigError, TransientError
from dicom_config.model import Settings
from dicom_config.operation import StoreSection
from uair_node.storage.store import PARTIAL_SUFFIX, Store


def open_store(settings: Settings) -> Store:
    """Return the data folder's store. If the settings name an object store, then files are shared there.

    Raises
    ------
    ConfigError
        ``store-extra``: the extra ``s3`` is not installed. ``store-secret``: the secret cannot be read.
    """
    section = settings.store
    return Store(settings.data_dir, ObjectStore(section) if section.url else None)


_PROBE_S = 5.0
"""Time limit of `probe` in seconds, for a server that accepts a connection and then sends nothing."""
_REQUEST_S = {"connect_timeout": 5, "read_timeout": 15, "retries": {"total_max_attempts": 1}}
"""Limits of a request, times in seconds. s3fs tries it five times, so botocore must not repeat each try."""


class ObjectStore:
    """A bucket, or a folder in a bucket.

    Parameters
    ----------
    section
        Address and credentials.
    """

    def __init__(self, section: StoreSection) -> None:
        if find_spec("s3fs") is None:
            remedy = "Install s3fs with the extra `s3`: pip install 'uair-node[s3]'."
            raise ConfigError("store-extra", "`store.url` needs s3fs, which is not installed.", remedy)
        self._options = _options(section)
        self._base = section.url.removeprefix("s3://").rstrip("/")

    def put(self, files: Mapping[str, Path]) -> None:
        """Upload files under the given names."""
        with _errors():
            self._files().put([str(path) for path in files.values()], [self._key(name) for name in files])

    def get(self, files: Mapping[str, Path]) -> None:
        """Download files. After an error, each file is complete or does not exist."""
        partial = [path.with_name(f"{path.name}.{os.getpid()}{PARTIAL_SUFFIX}") for path in files.values()]
        try:
            with _errors():
                self._files().get([self._key(name) for name in files], [str(path) for path in partial])
            for path, whole in zip(partial, files.values(), strict=True):
                path.replace(whole)
        finally:
            for path in partial:
                path.unlink(missing_ok=True)

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects. A missing object is no error."""
        with _errors(), contextlib.suppress(FileNotFoundError):
            self._files().rm([self._key(name) for name in names])

    def remove_folder(self, name: str) -> None:
        """Delete all objects in a folder and its subfolders."""
        with _errors(), contextlib.suppress(FileNotFoundError):
            self._files().rm(self._key(name), recursive=True)

    def probe(self) -> None:
        """Raise TransientError ``store-unavailable`` or ``store-bucket`` if the bucket cannot be listed."""
        bucket = self._base.partition("/")[0]
        try:
            with _errors():
                quick = {**_REQUEST_S, "connect_timeout": _PROBE_S, "read_timeout": _PROBE_S}
                files = self._files(config_kwargs=quick, skip_instance_cache=True)
                files.retries = 1
                files.ls(bucket, refresh=True)
        except TransientError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise TransientError(
                "store-bucket",
                f"The object store has no bucket `{bucket}`.",
                "Create the bucket, or correct `store.url`. Then the work continues by itself.",
            ) from error

    def _key(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _files(self, **more: object) -> Any:
        """Return the file system object. A forked process gets a separate object."""
        import fsspec

        return fsspec.filesystem("s3", **(self._options | more))


def _options(section: StoreSection) -> dict[str, Any]:
    client = {"endpoint_url": section.endpoint_url} if section.endpoint_url else {}
    options: dict[str, Any] = {
        "client_kwargs": client,
        "config_kwargs": _REQUEST_S,
        "use_listings_cache": False,
    }
    if section.access_key:
        options |= {"key": section.access_key, "secret": _secret(section)}
    return options


def _secret(section: StoreSection) -> str:
    try:
        return section.secret_key_file.read_text("utf-8").strip() if section.secret_key_file else ""
    except OSError as error:
        raise ConfigError(
            "store-secret",
            f"{section.secret_key_file} cannot be read ({error.strerror}).",
            "Correct `store.secret_key_file` or its rights.",
        ) from None


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turn the client's exceptions into our errors, because the exceptions' texts quote object names."""
    try:
        yield
    except Exception as error:  # s3fs also passes on exceptions of botocore and aiohttp
        raise TransientError(
            "store-unavailable",
            f"The object store cannot be used now ({type(error).__name__}).",
            "Check that the object store runs. Check `store.url` and the credentials. Then the work "
            "continues by itself.",
        ) from error
