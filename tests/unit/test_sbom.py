"""The bill of materials names everything that the product consists of, and nothing that only tests need."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def text() -> str:
    command = [sys.executable, str(_ROOT / "scripts" / "sbom.py")]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_every_requirement_is_named_with_the_installed_version(text: str) -> None:
    bill = json.loads(text)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    found = {canonicalize_name(each["name"]): each.get("version") for each in bill["components"]}
    assert {name: version(name) for name in wanted} == {name: found.get(name) for name in wanted}
    assert "numpy" in found
    assert "vine" in found, "what a requirement requires (celery)"
    assert not {"pytest", "ruff", "mypy"} & found.keys()
    references = [each["bom-ref"] for each in bill["components"]]
    assert len(set(references)) == len(references)
    depended = {reference for each in bill["dependencies"] for reference in each["dependsOn"]}
    assert depended <= set(references)


def test_scripts_and_weights_are_named_with_their_digest(text: str) -> None:
    digests = {each["hashes"][0]["content"] for each in json.loads(text)["components"] if "hashes" in each}
    files = [*(_ROOT / "workers/models").rglob("*.safetensors")]
    files += [_ROOT / "uair_node/console/static" / name for name in ("htmx.min.js", "three.module.min.js")]
    assert digests == {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_script_of_others_in_the_console_is_in_the_bill(text: str) -> None:
    licences = {path.stem for path in (_ROOT / "uair_node/console/static").glob("*.LICENSE")}
    scripts = {each["name"] for each in json.loads(text)["components"] if "pkg:npm" in each["bom-ref"]}
    assert scripts == licences
    references = re.findall(r"pkg:[^\"]+", text)
    assert all(re.fullmatch(r"pkg:(pypi|npm)/[a-z0-9.-]+@\S+", reference) for reference in references)
