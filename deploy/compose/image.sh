#!/usr/bin/env bash
# Builds the image `quintet` (or $1) with the Docker engine of this machine. Needs no network inside the build: the
# wheels are fetched here, with this machine's pip settings, and copied in. BASE names the base image; where neither it
# nor a registry can be had, one is made from Debian's packages with debootstrap (as root).
set -euo pipefail
cd "$(dirname "$0")/../.."

IMAGE=${1:-quintet}
BASE=${BASE:-quintet-base:bookworm}
SUITE=bookworm
MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
CONTEXT=build/image
PYTHON=${PYTHON:-.venv/bin/python}

have() { docker image inspect "$1" >/dev/null 2>&1; }

if ! have "$BASE"; then
  if [ "$BASE" = quintet-base:bookworm ]; then
    echo "making the base image from Debian's packages"
    root=$(mktemp -d)
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv "$SUITE" "$root" "$MIRROR" >/dev/null
    tar -C "$root" --exclude=./var/cache/apt/archives --exclude=./var/lib/apt/lists -c . | docker import - "$BASE" >/dev/null
    rm -rf --one-file-system "$root"
  else
    docker pull "$BASE"
  fi
fi

# Only what is in git goes in, as it stands in the folder now.
rm -rf "$CONTEXT/tree"
mkdir -p "$CONTEXT/tree/wheels" "$CONTEXT/wheels"
git ls-files -z -- libs services gateway deploy sdk/python pyproject.toml LICENSE README.md 'requirements*.lock' |
  xargs -0 cp --parents -t "$CONTEXT/tree"

echo "fetching the wheels of requirements.lock"
sed -n '/^setuptools==/,/^[^ #]/{/^setuptools==/p;/^    --hash/p}' requirements-dev.lock > "$CONTEXT/setuptools.lock"
"$PYTHON" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
  --find-links "$CONTEXT/wheels" --dest "$CONTEXT/wheels" -r requirements.lock -r "$CONTEXT/setuptools.lock"
cp "$CONTEXT"/wheels/*.whl "$CONTEXT/tree/wheels/"

before=$(docker image inspect --format '{{.Id}}' "$IMAGE" 2>/dev/null || true)
DOCKER_BUILDKIT=0 docker build --quiet --tag "$IMAGE" --file deploy/Dockerfile \
  --build-arg BASE="$BASE" --build-arg PIP_OPTIONS="--no-index --find-links /wheels" "$CONTEXT/tree"
# The image that bore the name before is no longer to be found by it; it stays while a container still runs of it.
if [ -n "$before" ] && [ "$before" != "$(docker image inspect --format '{{.Id}}' "$IMAGE")" ]; then
  docker image rm "$before" >/dev/null 2>&1 || true
fi
