#!/usr/bin/env bash
# Runs a command with a Docker engine: the one that answers, or, as root, one of its own for the length of the command.
# Ends with 69 (EX_UNAVAILABLE) when there is neither, and says why.
#
# An engine of its own leaves nothing that runs behind, whatever ends it: it has a process namespace, and the kernel ends
# its containers and builds with it, SIGKILL included. Its images stay for the next time.
set -euo pipefail

STARTED_WITHIN_S=60
STOPPED_WITHIN_S=60
NO_ENGINE=69

if docker info >/dev/null 2>&1; then exec "$@"; fi
if [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null; then
  echo "no Docker engine answers; root can install and start one: make compose-machine" >&2
  exit "$NO_ENGINE"
fi

state=$(mktemp -d)
waiting=""

stop() {
  local engine
  # Its number outside the namespace: the process that waits for it passes no signals on.
  engine=$(cat "$state/engine.pid" 2>/dev/null) && kill -TERM "$engine" 2>/dev/null || true
  for _ in $(seq "$STOPPED_WITHIN_S"); do kill -0 "$waiting" 2>/dev/null || break; sleep 1; done
  kill -KILL "$waiting" 2>/dev/null || true
  wait "$waiting" 2>/dev/null || true
  rm -rf --one-file-system "$state"
}
trap stop EXIT

# In a mount namespace, too: what the engine mounts ends with it. Its numbers and sockets lie in a folder of this run,
# where no earlier engine's can be mistaken for them. Containers have the networks that they ask for, and no other.
# docker-init comes first in the namespace, as it does in a container: it buries what the engine leaves to it.
unshare --pid --mount --fork --kill-child bash -c '
  read -r pid _ </proc/self/stat && echo "$pid" >"$1/engine.pid"
  mount -t proc proc /proc
  exec docker-init -- dockerd --host "unix://$1/docker.sock" --pidfile "$1/dockerd.pid" --exec-root "$1/exec" --bridge none
' engine "$state" >"$state/log" 2>&1 &
waiting=$!
export DOCKER_HOST="unix://$state/docker.sock"

for _ in $(seq "$STARTED_WITHIN_S"); do
  if docker info >/dev/null 2>&1; then
    code=0
    "$@" || code=$?
    exit "$code"
  fi
  kill -0 "$waiting" 2>/dev/null || break
  sleep 1
done
echo "the Docker engine did not start:" >&2
tail -n 20 "$state/log" >&2
exit "$NO_ENGINE"
