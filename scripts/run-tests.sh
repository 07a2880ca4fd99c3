#!/usr/bin/env bash
# Runs the tests in several processes, with temporary files in memory where 4 GiB of it are free.
#
# PROCESSES says how many (default 3: much of the time is waiting). All arguments go to pytest. Passed tests leave no files.
set -euo pipefail
# Each test process and each server that a test starts reads compiled modules instead of compiling them again.
unset PYTHONDONTWRITEBYTECODE
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly LEAST_KIB=$((4 * 1024 * 1024))

free_kib() { df --output=avail "$1" 2>/dev/null | tail -n 1; }

parent=${TMPDIR:-/tmp}
if [[ -w /dev/shm && $(free_kib /dev/shm) -ge $LEAST_KIB ]]; then parent=/dev/shm; fi
folder=$(mktemp -d "$parent/uair-tests.XXXXXX")
trap 'rm -rf "$folder"' EXIT

.venv/bin/pytest --numprocesses "${PROCESSES:-3}" --dist loadfile --no-loadscope-reorder --durations 60 --basetemp "$folder/run" "$@"
