"""A private Orthanc: the PACS of the integration tests, controlled over its REST interface."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.ports import answers, free_port
from tests.support.server import Server, need

_RECIPE = Path(__file__).parents[2] / "dicom_config"
_PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins")


@dataclass(frozen=True)
class OrthancSeries:
    """One series in the archive: Orthanc's identifier, the main tags by keyword, its instances."""

    id: str
    tags: Mapping[str, str]
    instances: tuple[str, ...]

    @property
    def modality(self) -> str:
        """Modality (0008,0060); empty if the series has none."""
        return self.tags.get("Modality", "")


class Orthanc(Server):
    """Orthanc on free loopback ports, without users. It stores below its own folder.

    Attributes
    ----------
    url
        REST root, no slash at its end.
    dicomweb_url
        DICOMweb root; ``None`` if the plug-in is not installed.
    aet, dicom_port
        AE title and port for C-STORE, C-FIND and C-ECHO from any peer.
    """

    def __init__(self, folder: Path, aet: str = "ORTHANC") -> None:
        (binary,) = need("Orthanc")
        super().__init__("Orthanc", folder)
        self.aet = aet
        self.http_port = free_port()
        self.dicom_port = free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        plugin = _dicomweb_plugin()
        self.dicomweb_url = f"{self.url}/dicom-web" if plugin else None
        self._command = (str(binary), str(folder / "orthanc.json"))
        configuration = self._configuration([str(plugin)] if plugin else [])
        (folder / "orthanc.json").write_text(json.dumps(configuration, indent=2))

    def _configuration(self, plugins: Sequence[str]) -> dict[str, Any]:
        """Return the configuration that we recommend to sites, with own ports and folders, without users."""
        recipe = json.loads((_RECIPE / "orthanc.json").read_text())
        del recipe["DicomModalities"]  # `add_modality` adds the modalities of a test
        return recipe | {
            "Name": "tests",
            "LuaScripts": [str(_RECIPE / "orthanc.lua")],
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": self.aet,
            "DicomCheckCalledAet": False,
            "DicomModalitiesInDatabase": True,
            "DicomScuTimeout": 30,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StableAge": 1,
            "Plugins": list(plugins),
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }

    def command(self) -> Sequence[str]:
        """Run Orthanc in the foreground."""
        return self._command

    def is_up(self) -> bool:
        """Whether REST and DICOM both answer."""
        try:
            self._call("GET", "/system")
        except (urllib.error.URLError, ConnectionError):
            return False
        return answers(self.dicom_port)

    def add_modality(self, name: str, aet: str, host: str, port: int) -> None:
        """Register a peer as `name` with AE title `aet`; remove the peers with this name or title.

        Orthanc reports storage commitment to the first modality that has the title.
        """
        for known, modality in self._json("GET", "/modalities?expand").items():
            if modality["AET"] == aet and known != name:
                self._call("DELETE", f"/modalities/{quote(known)}")
        self._call("PUT", f"/modalities/{quote(name)}", {"AET": aet, "Host": host, "Port": port})

    def echo(self, modality: str) -> bool:
        """Let Orthanc send a C-ECHO to a registered modality; return whether it succeeded."""
        try:
            self._call("POST", f"/modalities/{quote(modality)}/echo", {})
        except urllib.error.HTTPError:
            return False
        return True

    def store(self, resource_id: str | Sequence[str], modality: str) -> None:
        """Send instances (or series, studies) by Orthanc identifier to a modality by C-STORE, and wait.

        Raises
        ------
        urllib.error.HTTPError
            The peer refused the association or an instance.
        """
        ids = [resource_id] if isinstance(resource_id, str) else list(resource_id)
        request = {"Resources": ids, "Synchronous": True}
        self._call("POST", f"/modalities/{quote(modality)}/store", request, timeout_s=300.0)

    def upload(self, dicom: bytes) -> str:
        """Upload one DICOM file; return Orthanc's identifier of the instance."""
        return str(self._json("POST", "/instances", dicom)["ID"])

    def instances(self) -> list[str]:
        """Return the identifiers of all instances."""
        return [str(item) for item in self._json("GET", "/instances")]

    def series(self) -> list[OrthancSeries]:
        """Return all series with their main tags."""
        return [
            OrthancSeries(item["ID"], item["MainDicomTags"], tuple(item["Instances"]))
            for item in self._json("GET", "/series?expand")
        ]

    def tags(self, instance_id: str) -> Mapping[str, Any]:
        """Return all tags of an instance by keyword; sequences as lists."""
        result: Mapping[str, Any] = self._json("GET", f"/instances/{instance_id}/simplified-tags")
        return result

    def series_uid(self, series_id: str) -> str:
        """Return the Series Instance UID of a series."""
        return str(self._json("GET", f"/series/{series_id}")["MainDicomTags"]["SeriesInstanceUID"])

    def instances_of(self, series_id: str) -> list[str]:
        """Return the identifiers of a series' instances."""
        return [str(instance) for instance in self._json("GET", f"/series/{series_id}")["Instances"]]

    def find(self, level: str, query: Mapping[str, str]) -> list[str]:
        """Return identifiers at `level` (Patient, Study, Series, Instance) whose tags match `query`."""
        found = self._json("POST", "/tools/find", {"Level": level, "Query": dict(query)})
        return [str(item) for item in found]

    def dicom(self, instance_id: str) -> bytes:
        """Return an instance as the DICOM file that Orthanc received."""
        return self._call("GET", f"/instances/{instance_id}/file")

    def delete_all(self) -> None:
        """Delete everything in the archive."""
        for patient in self._json("GET", "/patients"):
            self._call("DELETE", f"/patients/{patient}")

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        return json.loads(self._call(method, path, body))

    def _call(self, method: str, path: str, body: Any = None, timeout_s: float = 60.0) -> bytes:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            content: bytes = answer.read()
        return content


def _dicomweb_plugin() -> Path | None:
    for folder in _PLUGIN_FOLDERS:
        for plugin in sorted(Path(folder).glob("libOrthancDicomWeb.so*")):
            return plugin
    return None
