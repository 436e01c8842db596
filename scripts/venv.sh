#!/usr/bin/env bash
# Makes .venv with the Python packages that the tests use, once; prints the path of its python.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=Tests/Python/requirements.txt
stamp=.venv/.installed
if ! cmp -s "$requirements" "$stamp" 2>/dev/null; then
    python3 -m venv .venv >&2
    .venv/bin/pip install --quiet --disable-pip-version-check -r "$requirements" >&2
    cp "$requirements" "$stamp"
fi
echo "$PWD/.venv/bin/python"
