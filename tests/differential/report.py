# SPDX-License-Identifier: MIT
"""Writes what a run came to into a document, one line for each Python."""

import platform
import re

# Rows start with the Python's version; other lines are the document's own.
ROW = re.compile(r"^\| (3\.\d+\.\d+) \|")
# The line above the rows.
HEAD = (
    "| Python | seed | programs | comparisons | same | order | selector"
    " | unstable | left out | differs |"
)
HEADS = ("same", "order", "selector", "unstable", "left out", "differs")


def row_of(total, seed):
    """One line of the table; comparisons are counted over all pollers."""
    counts = dict.fromkeys(HEADS, 0)
    for verdicts in total["verdicts"].values():
        for how, count in verdicts.items():
            counts[how] += count
    cells = [platform.python_version(), seed, total["programs"]]
    cells += [sum(counts.values()), *counts.values()]
    return "| " + " | ".join(map(str, cells)) + " |"


def write(path, total, seed):
    """Put the line in the place of this Python's, or after the others."""
    lines = path.read_text().splitlines()
    new = row_of(total, seed)
    version = ROW.match(new)[1]
    at = lines.index(HEAD) + 2  # below the line that closes the head
    while at < len(lines) and (row := ROW.match(lines[at])):
        if row[1] == version:
            del lines[at]
            break
        at += 1
    lines.insert(at, new)
    path.write_text("\n".join(lines) + "\n")
