#!/usr/bin/env bash
# Refuses proto changes that break readers of the base: PROTO_BASE when given; else origin/main when it is behind; else
# HEAD when proto/ has uncommitted changes; else the commit before HEAD.
set -euo pipefail
cd "$(dirname "$0")/.."

OUT=build/proto-base

commit_of() { git rev-parse --verify --quiet "$1^{commit}" || true; }

head=$(commit_of HEAD)
base=$(commit_of "${PROTO_BASE:-origin/main}")
if [ -n "${PROTO_BASE:-}" ] && [ -z "$base" ]; then
  echo "PROTO_BASE=$PROTO_BASE names no commit" >&2
  exit 1
fi
if [ -z "$base" ] || [ "$base" = "$head" ]; then
  if [ -n "$(git status --porcelain -- proto)" ]; then base=$head; else base=$(commit_of HEAD~1); fi
fi
if [ -z "$base" ] || [ -z "$(git ls-tree "$base" -- proto)" ]; then
  echo "no protos to compare with yet: nothing can break"
  exit 0
fi

# The base is unpacked, not read from git, because it needs the untracked google/api protos beside it.
rm -rf "$OUT"
mkdir -p "$OUT/build"
git archive "$base" -- proto buf.yaml | tar -x -C "$OUT"
cp -R build/protos "$OUT/build/protos"
.venv/bin/buf breaking --against "$OUT"
echo "no breaking change of proto/ since $(git rev-parse --short "$base")"
