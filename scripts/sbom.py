"""Print the bill of materials of the installed product as CycloneDX 1.5: packages, scripts, weights.

The bill lists the packages that `uair-node` requires in this environment, directly or through other packages.
It lists no test tools. The bill contains no time and no serial number, so the same installation gives the
same text.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PRODUCT = "uair-node"
_ROOT = Path(__file__).parents[1]
_SCRIPTS = {
    "htmx": ("uair_node/console/static/htmx.min.js", r'version:"([0-9.]+)"', "0BSD"),
    "three": ("uair_node/console/static/three.module.min.js", r'const \w+="(\d+)"', "MIT"),
}
"""Scripts of the console from other projects: file, pattern that finds the version, licence."""


def bill_of_materials() -> dict[str, Any]:
    """Return the bill in the JSON form of CycloneDX."""
    packages = _closure()
    product = packages.pop(PRODUCT)
    components = [_package(found) for _, found in sorted(packages.items())]
    components += [_script(name, *facts) for name, facts in sorted(_SCRIPTS.items())]
    components += [_weights(path) for path in sorted((_ROOT / "workers/models").rglob("*.safetensors"))]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": _package(product) | {"type": "application"}},
        "components": components,
        "dependencies": [
            {"ref": _purl(found), "dependsOn": _dependencies(found, packages)}
            for found in (product, *packages.values())
        ],
    }


def _closure() -> dict[str, Distribution]:
    """Return the product and all packages that it requires on this machine, by canonical name."""
    found: dict[str, Distribution] = {}
    waiting = [PRODUCT]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # a requirement of an extra that is not installed
            continue
        waiting += [requirement.name for requirement in _requirements(found[name])]
    return found


def _requirements(package: Distribution) -> list[Requirement]:
    """Return the requirements of a package on this machine, without its extras."""
    listed = [Requirement(text) for text in package.requires or ()]
    return [each for each in listed if each.marker is None or each.marker.evaluate({"extra": ""})]


def _dependencies(package: Distribution, packages: dict[str, Distribution]) -> list[str]:
    names = {canonicalize_name(each.name) for each in _requirements(package)} & packages.keys()
    return sorted(_purl(packages[name]) for name in names)


def _purl(package: Distribution) -> str:
    return f"pkg:pypi/{canonicalize_name(package.name)}@{package.version}"


def _package(package: Distribution) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _purl(package),
        "name": package.name,
        "version": package.version,
        "purl": _purl(package),
    }
    headers = package.metadata
    expression = headers.get("License-Expression")
    trove = [text for text in headers.get_all("Classifier") or () if text.startswith("License :: ")]
    if expression:
        component["licenses"] = [{"expression": expression}]
    elif trove:
        component["licenses"] = [{"license": {"name": text.rsplit(" :: ", 1)[-1]}} for text in trove]
    elif headers.get("License"):
        component["licenses"] = [{"license": {"name": str(headers["License"]).splitlines()[0][:100]}}]
    return component


def _script(name: str, file: str, version: str, licence: str) -> dict[str, Any]:
    path = _ROOT / file
    shown = re.search(version, path.read_text("utf-8"))
    if shown is None:
        raise SystemExit(f"{file} shows no version any more: correct {Path(__file__).name}")
    return {
        "type": "library",
        "bom-ref": f"pkg:npm/{name}@{shown[1]}",
        "name": name,
        "version": shown[1],
        "purl": f"pkg:npm/{name}@{shown[1]}",
        "licenses": [{"license": {"id": licence}}],
        "hashes": [_digest(path)],
    }


def _weights(path: Path) -> dict[str, Any]:
    name = path.relative_to(_ROOT).as_posix()
    return {"type": "machine-learning-model", "bom-ref": name, "name": name, "hashes": [_digest(path)]}


def _digest(path: Path) -> dict[str, str]:
    return {"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(bill_of_materials(), indent=2) + "\n")
