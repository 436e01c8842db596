#!/usr/bin/env bash
# Programs in documents are programs that compile: a code block below a comment that names a file has to be that file.
# With --write, the files are put into the documents.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 - "${1-}" <<'PYTHON'
import pathlib, re, sys

failed = False
for document in sorted(pathlib.Path("docs").glob("*.md")):
    text = document.read_text()

    def fresh(match):
        return f"{match[1]}{pathlib.Path(match[2]).read_text()}{match[4]}"

    wanted = re.sub(r"(<!-- (\S+) -->\n```swift\n)(.*?)(```\n)", fresh, text, flags=re.S)
    if wanted == text:
        continue
    if sys.argv[1] == "--write":
        document.write_text(wanted)
    else:
        print(f"{document} differs from the programs that it shows: run scripts/check-docs.sh --write", file=sys.stderr)
        failed = True
sys.exit(failed)
PYTHON
