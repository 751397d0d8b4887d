#!/usr/bin/env bash
# Runs a command with a Docker engine: the one that answers, or, as root, one of its own for the length of the command.
# Ends with 69 (EX_UNAVAILABLE) when there is neither, and says why.
set -euo pipefail

STARTED_WITHIN_S=60
STOPPED_WITHIN_S=60
NO_ENGINE=69

if docker info >/dev/null 2>&1; then exec "$@"; fi
if [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null; then
  echo "no Docker engine answers; root can install and start one: make compose-machine" >&2
  exit "$NO_ENGINE"
fi

log=$(mktemp)
dockerd >"$log" 2>&1 &
engine=$!

stop() {
  kill -TERM "$engine" 2>/dev/null || true
  for _ in $(seq "$STOPPED_WITHIN_S"); do kill -0 "$engine" 2>/dev/null || break; sleep 1; done
  kill -KILL "$engine" 2>/dev/null || true
  rm -f "$log"
}
trap stop EXIT

for _ in $(seq "$STARTED_WITHIN_S"); do
  if docker info >/dev/null 2>&1; then
    code=0
    "$@" || code=$?
    exit "$code"
  fi
  kill -0 "$engine" 2>/dev/null || break
  sleep 1
done
echo "the Docker engine did not start:" >&2
tail -n 20 "$log" >&2
exit "$NO_ENGINE"
