#!/usr/bin/env bash
# Sets up everything the tests need and runs all of them: ./test.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "$0")"

new_enough='import sys, venv; sys.exit(sys.version_info < (3, 11))'
python=
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
  if [ -n "$candidate" ] && "$candidate" -c "$new_enough" 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "test.sh: Python 3.11 or newer is needed; set PYTHON to its path" >&2
  exit 2
fi

runner=.venv-tox
if [ ! -x "$runner/bin/tox" ]; then
  if ! "$python" -m venv "$runner"; then
    rm -rf "$runner"
    echo "test.sh: cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2
    exit 2
  fi
  "$runner/bin/pip" install --quiet --disable-pip-version-check -c requirements.lock tox
fi
exec "$runner/bin/tox" run -- "$@"
