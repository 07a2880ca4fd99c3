#!/bin/sh
# Makes the passwords of docker-compose.yml, each at random, in the folder `secrets`. What is there already stays.
set -eu
cd "$(dirname "$0")/.."
umask 022 # the containers' users read single files; the folder itself is closed to others
mkdir -p secrets
chmod 700 secrets

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { [ -e "secrets/$1" ] || cat >"secrets/$1"; }

random | keep postgres_password
random | keep rabbitmq_password
random | keep grafana_password
random | keep orthanc_password
printf 'default_user = uair\ndefault_pass = %s\n' "$(cat secrets/rabbitmq_password)" | keep rabbitmq.conf
printf '{"RegisteredUsers": {"uair": "%s"}}\n' "$(cat secrets/orthanc_password)" | keep orthanc-users.json
echo "The passwords are in $(pwd)/secrets: keep a copy where you keep others, and none in version control."
