#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write the soak's section of docs/reliability.md from a run's report.

    python tests/soak/document.py build/results/soak-3.13.json

Other sections of the file stay as they are.
"""

import json
import sys
from pathlib import Path
from textwrap import fill

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- soak: begin -->", "<!-- soak: end -->"
TITLE = "# Reliability\n\nWhat has been tried, with its figures.\n"


def table(title, counts):
    yield f"| {title} | |"
    yield "|---|---:|"
    for name, count in counts.items():
        yield f"| {name} | {count:,} |"
    yield ""


def section(result):
    """The lines of the section, its marks included."""
    memory = result["memory"]
    yield BEGIN
    yield "## Soak"
    yield ""
    yield fill(
        f"Mixed load for {result['seconds']} seconds on CPython"
        f" {result['python']}: {result['rounds']} loops one after the other,"
        f" on every poller and with both TLS engines, seed {result['seed']}."
        " Every byte was compared with what was sent;"
        f" {len(result['failures'])} failures. `tests/soak/document.py` writes"
        " this from the report of `tests/soak/soak.py`."
    )
    yield ""
    yield from table("What was done", result["counts"])
    yield from table("How connections ended", result["endings"])
    yield fill(
        f"Resident memory after the warm-up, over {memory['rounds']} loops:"
        f" {memory['growth_kib']:+} KiB. Every descriptor of each loop was"
        " closed at its end."
    )
    yield END


def main():
    result = json.loads(Path(sys.argv[1]).read_text())
    text = DOCUMENT.read_text() if DOCUMENT.is_file() else TITLE
    lines = "\n".join(section(result))
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        text = before + lines + after
    else:
        text = f"{text.rstrip()}\n\n{lines}\n"
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
