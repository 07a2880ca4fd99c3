#!/usr/bin/env bash
# Installs what the tests use: Orthanc, RabbitMQ, PostgreSQL, DCMTK, dicom3tools, PixelMed, amtool, docker-compose,
# strace, Chromium, OHIF, and readers of DICOM objects from npm and PyPI.
#
# Only what is missing, only from the system's packages, and only as root or with `sudo` that asks for no password
# on Debian or Ubuntu. Anywhere else it prints what is missing and ends with 0: the tests that need it are skipped
# then (in CI they fail). It never starts a service and leaves those that it installed disabled; the tests run
# private instances of their own. What no system packages goes into the user's cache folder: OHIF as the published
# build, the packages of peers/package-lock.json by npm without any install script, and those of
# peers/requirements.txt into a Python environment of their own.
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1; }
have_file() { compgen -G "$1" >/dev/null; }

has_compose() { have docker-compose || docker compose version >/dev/null 2>&1; }
has_dicomweb() {
  have_file '/usr/share/orthanc/plugins/libOrthancDicomWeb.so*' || have_file '/usr/lib/orthanc/libOrthancDicomWeb.so*'
}

# One line a peer: package | what it is for | how to tell that it is there.
readonly PEERS=(
  "rabbitmq-server|RabbitMQ, the broker|have rabbitmq-server"
  "postgresql|PostgreSQL, the database|have initdb || have_file '/usr/lib/postgresql/*/bin/initdb'"
  "orthanc|Orthanc, the PACS|have Orthanc"
  "orthanc-dicomweb|Orthanc's DICOMweb plugin|has_dicomweb"
  "dcmtk|DCMTK, routers and modalities|have storescu && have storescp"
  "dicom3tools|dciodvfy, the IOD validator|have dciodvfy"
  "libpixelmed-java|PixelMed, the validator of reports|have_file /usr/share/java/pixelmed.jar"
  "default-jdk-headless|Java, runs PixelMed|have java && have javac"
  "prometheus|promtool, checks the alert rules|have promtool"
  "prometheus-alertmanager|amtool, checks where alerts go|have amtool"
  "docker-compose|docker-compose, validates docker-compose.yml|has_compose"
  "plastimatch|plastimatch, a reader of RT Structure Sets|have plastimatch"
  "strace|strace, shows what is on disk before an answer|have strace"
  "chromium|Chromium, runs the viewer|have chromium"
  "npm|npm, fetches the viewer|have npm"
)
# The viewer: this version of the npm package @ohif/app.
readonly OHIF_VERSION=3.13.2
readonly CACHE=${XDG_CACHE_HOME:-~/.cache}/uair-peers
readonly OHIF_FOLDER=$CACHE/ohif
readonly WANTED=${BASH_SOURCE[0]%/*}/peers
# What those packages would start at boot.
readonly SERVICES=(rabbitmq-server postgresql orthanc prometheus prometheus-alertmanager epmd.service epmd.socket)

# Prints "package|what it is for" of each peer that is not there.
missing_peers() {
  local peer package purpose test
  for peer in "${PEERS[@]}"; do
    IFS='|' read -r package purpose _ <<<"$peer"
    test=${peer#"$package|$purpose|"} # may itself hold "||"
    eval "$test" || echo "$package|$purpose"
  done
}

has_ohif() { [[ -f $OHIF_FOLDER/package/$OHIF_VERSION ]]; }

# Unpacks the published build; its dependencies are for those who build it themselves.
install_ohif() {
  local fresh
  if has_ohif; then return 0; fi
  if ! have npm; then
    echo "OHIF $OHIF_VERSION needs npm to be fetched; the viewer's tests will be skipped (in CI they fail)."
    return 0
  fi
  echo "Fetching for the tests: OHIF $OHIF_VERSION"
  mkdir -p "$OHIF_FOLDER"
  fresh=$(mktemp -d "$OHIF_FOLDER/fetch.XXXXXX")
  if (cd "$fresh" && npm pack --silent "@ohif/app@$OHIF_VERSION" >npm.log 2>&1 && tar -xzf ./*.tgz); then
    touch "$fresh/package/$OHIF_VERSION"
    rm -rf "$OHIF_FOLDER/package"
    mv "$fresh/package" "$OHIF_FOLDER/package"
  else
    cat "$fresh/npm.log"
    echo "OHIF could not be fetched; the viewer's tests will be skipped (in CI they fail)."
  fi
  rm -rf "$fresh"
}

# What a list of packages was installed into keeps a copy of that list, written last.
is_installed() {
  local list=$1 copy=$2/${1##*/}
  [[ -f $copy && "$(<"$list")" == "$(<"$copy")" ]]
}

# Installs the packages of a list by `install FOLDER` into a fresh folder, which replaces the former one.
install_list() {
  local list=$1 folder=$2 install=$3 fresh
  if is_installed "$list" "$folder"; then return 0; fi
  echo "Fetching for the tests: the packages of ${list##*/}"
  mkdir -p "$CACHE"
  fresh=$(mktemp -d "$folder.XXXXXX")
  if "$install" "$fresh" >"$fresh.log" 2>&1; then
    cp "$list" "$fresh/"
    rm -rf "$folder"
    mv "$fresh" "$folder"
  else
    cat "$fresh.log"
    echo "The packages of ${list##*/} could not be installed; their tests will be skipped (in CI they fail)."
  fi
  rm -rf "$fresh" "$fresh.log"
}

install_node_packages() {
  cp "$WANTED/package.json" "$WANTED/package-lock.json" "$1/" &&
    (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund)
}

# The environment works in another place than where it was made, called by bin/python.
install_python_packages() {
  python3 -m venv "$1" && "$1/bin/python" -m pip install --quiet --only-binary :all: --requirement "$WANTED/requirements.txt"
}

install_readers() {
  if have npm; then
    install_list "$WANTED/package-lock.json" "$CACHE/node" install_node_packages
  else
    echo "The readers of package.json need npm to be fetched; their tests will be skipped (in CI they fail)."
  fi
  if have python3; then
    install_list "$WANTED/requirements.txt" "$CACHE/python" install_python_packages
  else
    echo "The readers of requirements.txt need Python; their tests will be skipped (in CI they fail)."
  fi
}

report() {
  local reason=$1 package purpose
  echo "Not installed; the tests that need them will be skipped (in CI they fail). $reason"
  while IFS='|' read -r package purpose; do
    printf '  %-18s %s\n' "$package" "$purpose"
  done < <(missing_peers)
}

# Sets RUN to the words before a command that needs root; fails when there is no way to be root.
become_root() {
  RUN=()
  if [[ $(id -u) -eq 0 ]]; then return 0; fi
  if have sudo && sudo -n true 2>/dev/null; then
    RUN=(sudo -n)
    return 0
  fi
  return 1
}

readonly POLICY=/usr/sbin/policy-rc.d
POLICY_BACKUP=""
GUARDED=no

# Debian asks this file before a package starts a service (invoke-rc.d(8)): 101 forbids it.
forbid_services() {
  if [[ -e $POLICY ]]; then
    POLICY_BACKUP="$POLICY.before-uair"
    "${RUN[@]}" mv --no-clobber "$POLICY" "$POLICY_BACKUP" # one there is the original of a killed run
  fi
  GUARDED=yes
  printf '#!/bin/sh\nexit 101\n' | "${RUN[@]}" tee "$POLICY" >/dev/null
  "${RUN[@]}" chmod 755 "$POLICY"
}

restore_services() {
  [[ $GUARDED == yes ]] || return 0
  "${RUN[@]}" rm -f "$POLICY"
  [[ -z $POLICY_BACKUP ]] || "${RUN[@]}" mv "$POLICY_BACKUP" "$POLICY"
  GUARDED=no
}

enabled_services() {
  local service
  have systemctl || return 0
  for service in "${SERVICES[@]}"; do
    if [[ $(systemctl is-enabled "$service" 2>/dev/null) == enabled ]]; then echo "$service"; fi
  done
}

# Disables the services that this installation enabled. Services that were enabled before stay enabled.
disable_new_services() {
  local before=$1 service
  while read -r service; do
    if [[ -n $service && $'\n'$before$'\n' != *$'\n'$service$'\n'* ]]; then
      "${RUN[@]}" systemctl disable --quiet "$service" >/dev/null 2>&1 || echo "Could not disable $service."
    fi
  done < <(enabled_services)
}

apt() {
  "${RUN[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
    apt-get -qq -o DPkg::Lock::Timeout=300 "$@"
}

install_packages() {
  local log=$1 package
  shift
  apt update >>"$log" 2>&1 || true # an old list may do
  if apt install -y --no-install-recommends "$@" >>"$log" 2>&1; then return 0; fi
  # One package that this release does not have must not keep the others out.
  for package in "$@"; do
    apt install -y --no-install-recommends "$package" >>"$log" 2>&1 || echo "$package could not be installed."
  done
}

install_system_peers() {
  local packages before log
  mapfile -t packages < <(missing_peers | cut -d'|' -f1)
  if [[ ${#packages[@]} -eq 0 ]]; then return 0; fi
  if ! have apt-get; then
    report "This is not Debian or Ubuntu: install them by your system's means."
    return 0
  fi
  if ! become_root; then
    report "Run this script as root to install them."
    return 0
  fi

  echo "Installing for the tests: ${packages[*]}"
  log=$(mktemp)
  trap restore_services EXIT
  before=$(enabled_services)
  forbid_services
  install_packages "$log" "${packages[@]}"
  disable_new_services "$before"
  if [[ -n $(missing_peers) ]]; then
    tail -n 20 "$log"
    report "The package manager's output is in $log."
  else
    rm -f "$log"
  fi
}

install_system_peers
install_ohif
install_readers
