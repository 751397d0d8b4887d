#!/usr/bin/env bash
# Makes .venv from the lock. `make` runs it when the lock is newer than the last complete install.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv
LOCK=requirements-dev.lock
STAMP=$VENV/.installed

find_python() {
  # Debian's own Python first: the embedded servers run under another user, who must be able to read the interpreter.
  local candidate
  for candidate in /usr/bin/python3.11 "$(command -v python3.11 || true)"; do
    if [ -x "$candidate" ]; then
      echo "$candidate"
      return
    fi
  done
  echo "Quintet needs Python 3.11: run \`make system\`, or install python3.11 yourself" >&2
  return 1
}

can_make_venv() {
  "$1" -c 'import ensurepip, venv; ensurepip.version()' 2>/dev/null
}

python=$(find_python) || { make --no-print-directory system && python=$(find_python); }
if ! can_make_venv "$python"; then
  echo "$python cannot make virtual environments yet; installing Debian's python3-venv"
  make --no-print-directory system
  can_make_venv "$python" || { echo "$python still lacks venv or ensurepip" >&2; exit 1; }
fi

# A venv that was interrupted half-way, or was moved, does not run: begin again.
if ! "$VENV/bin/pip" --version >/dev/null 2>&1; then
  rm -rf "$VENV"
  "$python" -m venv "$VENV"
fi

echo "installing the packages of $LOCK (once, a minute or two)"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
  --require-hashes --no-deps --only-binary :all: -r "$LOCK"
# This repository itself, and the SDK, as links to their sources: nothing is fetched for them.
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
  --no-index --no-deps --no-build-isolation --config-settings editable_mode=compat -e . -e sdk/python
touch "$STAMP"
