#!/bin/sh
# Runs the image's install steps (Dockerfile) in a clean Debian root, without a container engine, and tries the result.
#
#   scripts/check-image.sh FOLDER        as root; needs debootstrap, some 4 GB and several minutes (25 beside much other work)
#
# Packages are downloaded by this machine's pip, then installed in the root without a network. Debian's Python (3.11)
# stands in for the image's.
set -eu
[ $# -eq 1 ] || { sed -n '2,7p' "$0"; exit 2; }
root=$1
source=$(cd "$(dirname "$0")/.." && pwd)
[ ! -e "$root" ] || { echo "$root is there already; name a new folder." >&2; exit 2; }

debootstrap --variant=minbase --include=python3,python3-venv bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" \
  >"$root.debootstrap.log" 2>&1 || { tail -n 5 "$root.debootstrap.log" >&2; exit 1; }
rm "$root.debootstrap.log"

mkdir -p "$root/src" "$root/wheels"
(cd "$source" && cp -R pyproject.toml constraints.txt README.md LICENSE dicom_config uair_node workers "$root/src/")
cd "$root/src"
python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); print(*p['build-system']['requires'], *p['project']['dependencies'], *p['project']['optional-dependencies']['s3'], sep='\n')" >requirements.txt
python3 -m pip wheel --quiet --wheel-dir "$root/wheels" -c constraints.txt -r requirements.txt

inside() { chroot "$root" /usr/bin/env -i PATH=/opt/uair/bin:/usr/bin:/bin:/usr/sbin HOME=/tmp "$@"; }
inside python3 -m venv /opt/uair
inside pip install --quiet --no-index --find-links /wheels -c /src/constraints.txt -r /src/requirements.txt
inside sh -c 'cd /src && pip install --quiet --no-index --find-links /wheels --no-deps .'
rm -rf "$root/wheels" "$root/src"
inside useradd --uid 10001 --home-dir /var/lib/uair --create-home uair

as_uair() {
  chroot --userspec=10001 "$root" /usr/bin/env -i PATH=/opt/uair/bin:/usr/bin:/bin HOME=/var/lib/uair \
    UAIR_DATA_DIR=/var/lib/uair MPLCONFIGDIR=/tmp/matplotlib "$@"
}
cd /
as_uair uair --version
as_uair uair phantom /tmp/phantom
as_uair uair rules try /tmp/phantom
as_uair uair check --json >"$root/check.json" || [ $? -eq 1 ] # no PACS is configured: that is a fault
grep -q '"code": "no-destination"' "$root/check.json"
if grep -E '"code": "(check-failed|weights-[a-z]+|data-folder-unusable)"' "$root/check.json"; then exit 1; fi
echo "The image's install steps work in a clean Debian."
