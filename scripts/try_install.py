"""Run the commands of docs/install.md and docs/upgrading.md on a clean Debian with its own systemd.

`python -m scripts.try_install FOLDER [OPTION OF SYSTEMD-NSPAWN ...]`, as root. It needs debootstrap and
systemd-container, some 8 GB and half an hour. The new machine shares the network of this machine. So the
ports of PostgreSQL, RabbitMQ, Orthanc and the node must be free here.

The code blocks of the pages that have a name run unchanged. `STEPS` adds the steps of an administrator: write
the site's addresses into the configuration, start a PACS, wait. The folder remains for inspection. Remove the
folder afterwards.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from shlex import quote

import yaml

ROOT = Path(__file__).parents[1]
PAGES = ("install.md", "upgrading.md")
_RELEASE, _MIRROR = "bookworm", "http://deb.debian.org/debian"
_BASE = "systemd,systemd-sysv,dbus,ca-certificates"
_PASSWORD = "a-password-of-this-trial"
_SITE = {
    "10.20.0.0/16": "127.0.0.1/32",
    "10.20.1.5/32": "127.0.0.1/32",
    "pacs.hospital.example, port: 104": "127.0.0.1, port: 4242",
}
"""Text of the example configuration -> the text that replaces it in this trial."""

_ORTHANC = """\
{"DicomAet": "PACS", "DicomPort": 4242, "DicomAlwaysAllowStore": true,
 "StorageDirectory": "/var/lib/orthanc/db", "LuaScripts": ["/etc/orthanc/uair.lua"], "DicomModalities": {
 "UAIR": ["UAIR", "127.0.0.1", 11112], "UAIR_PICK": ["UAIR_PICK", "127.0.0.1", 11112],
 "UAIR_ACCEPT": ["UAIR_ACCEPT", "127.0.0.1", 11112], "UAIR_REJECT": ["UAIR_REJECT", "127.0.0.1", 11112],
 "UAIR_START": ["UAIR_START", "127.0.0.1", 11112]}}
"""
_PACS = f"""\
apt-get install orthanc
rm /etc/orthanc/*.json
install -m 644 dicom_config/orthanc.lua /etc/orthanc/uair.lua
cat >/etc/orthanc/orthanc.json <<'END'
{_ORTHANC}END
systemctl restart orthanc
"""
_EDIT = "cat /root/site.yaml >/etc/uair/site.yaml"
_WAIT = """\
for attempt in $(seq 120); do
  runuser -u uair -- uair cases --json | grep -q AWAITING_SELECTION && break
  sleep 5
done
runuser -u uair -- uair cases --json | grep AWAITING_SELECTION
"""
_NEWER = "git -c user.name=Trial -c user.email=trial@localhost commit --allow-empty -m Newer"
_LOG = "journalctl --no-pager --output=short-iso --unit='uair-*'"

_UNIT = """\
[Unit]
After=multi-user.target
[Service]
WorkingDirectory=/root
Environment=HOME=/root DEBIAN_FRONTEND=noninteractive
StandardOutput=journal+console
StandardError=journal+console
ExecStart=/bin/bash /root/trial
ExecStopPost=/bin/sh -c 'systemctl exit $EXIT_STATUS'
"""
"""A unit that runs the trial after the machine has started, and ends the machine with the trial's result."""

STEPS = (
    "@servers",
    _PACS,
    "@software",
    _EDIT,
    "exec </root/answers",
    "@start",
    "@send",
    _WAIT,
    "@look",
    _NEWER,
    "@upgrade",
    "@upgrade-switch",
    "@rollback",
    "runuser -u uair -- uair check",
    "@wheels",
    "new=/tmp/offline; /usr/bin/python3 -m venv $new",
    "@from-wheels",
    "/tmp/offline/bin/uair --version",
    _LOG,
)
"""The whole trial: ``@name`` is a block of the pages; the other steps are the administrator's part."""


def named_blocks(page: str) -> dict[str, str]:
    """Return the named shell blocks of a page, by name. The name is the word after ``sh``."""
    found = re.findall(r"^ *```sh ([\w-]+)\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    return dict(found)


def all_blocks() -> dict[str, str]:
    """Return the named blocks of all `PAGES`."""
    blocks: dict[str, str] = {}
    for name in PAGES:
        blocks |= named_blocks((ROOT / "docs" / name).read_text("utf-8"))
    return blocks


def site_configuration(page: str) -> str:
    """Return `hospital.yaml` with the changes that the page describes, and this site's addresses."""
    settings = yaml.safe_load((ROOT / "dicom_config" / "hospital.yaml").read_text("utf-8"))
    _, changes = page.split("/etc/uair/site.yaml`\n", 1)
    found = re.search(r"```yaml\n(.*?)```", changes, re.DOTALL)
    if found is None:
        raise ValueError("The page has no example of site.yaml.")
    example = found.group(1)
    for theirs, ours in _SITE.items():
        example = example.replace(theirs, ours)
    for key, value in yaml.safe_load(example).items():
        settings[key] = settings[key] | value if isinstance(value, dict) else value
    return yaml.safe_dump(settings)


def trial() -> str:
    """Return the shell script of the trial: all steps in one shell, which ends at the first failure."""
    blocks = all_blocks()
    lines = ["set -eux", "cd /root"]
    for step in STEPS:
        lines += [f": === {quote(step.splitlines()[0])}", blocks[step[1:]] if step.startswith("@") else step]
    return "\n".join(lines) + "\n"


def make_root(root: Path) -> None:
    """Make a clean Debian that runs the trial when it starts."""
    debootstrap = ["debootstrap", "--variant=minbase", f"--include={_BASE}", _RELEASE, str(root), _MIRROR]
    subprocess.run(debootstrap, check=True)
    home = root / "root"
    # On the pages, the address of the repository is an ellipsis. So a folder here has this ellipsis as its
    # name.
    subprocess.run(["git", "clone", "--quiet", "--bare", ROOT, root / "usr/local/src" / "…"], check=True)
    page = (ROOT / "docs" / PAGES[0]).read_text("utf-8")
    (home / "site.yaml").write_text(site_configuration(page), "utf-8")
    (home / "answers").write_text(f"{_PASSWORD}\n{_PASSWORD}\n")
    (home / "trial").write_text(trial(), "utf-8")
    (root / "etc/apt/apt.conf.d/90yes").write_text('APT::Get::Assume-Yes "true";\n')
    unit = root / "etc/systemd/system/trial.service"
    unit.write_text(_UNIT)
    wanted = unit.parent / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / unit.name).symlink_to(f"../{unit.name}")


def main(root: Path, options: list[str]) -> int:
    """Make the machine in a new folder and run the trial; return 0 if all steps succeeded."""
    make_root(root)
    boot = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", f"--directory={root}"]
    return subprocess.run([*boot, *options], check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) < 2 or Path(sys.argv[1]).exists():
        sys.exit("Name a new folder, then options of systemd-nspawn.")
    sys.exit(main(Path(sys.argv[1]).absolute(), sys.argv[2:]))
