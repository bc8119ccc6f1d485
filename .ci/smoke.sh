#!/usr/bin/env bash
# Install the built wheel in an environment of its own and run it from a folder that is not this one; then the sdist.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
python=$place/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints.txt" torch
"$python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints.txt" "$here"/dist/*.whl
cd "$place"
bigpe=$place/venv/bin/bigpe
"$bigpe" --version
"$bigpe" init project
"$bigpe" config check -p project > /dev/null
"$bigpe" models pull smollm2
"$bigpe" run -p project --set run.rounds=2 --set run.pilot_prompts=2 --set run.batch_size=2 --json > result.json
"$python" -c 'import json; print("best:", json.load(open("result.json"))["instructions"][0]["text"][:80])'
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$here"/dist/*.tar.gz
"$bigpe" status -p project
"$bigpe" refine -p project "a castle in the snow"
