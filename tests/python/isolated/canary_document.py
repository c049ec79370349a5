# SPDX-License-Identifier: MIT
"""Write the canaries' section of docs/reliability.md from their results.

    python tests/python/isolated/canary_document.py RESULTS

Other sections of the file stay as they are. A run that has failed is told,
with its seed; one whose reason has been mended says so in "mended".
"""

import collections
import json
import sys
from pathlib import Path
from textwrap import fill

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "reliability.md"
BEGIN, END = "<!-- canaries: begin -->", "<!-- canaries: end -->"
CANCELLING = ("cancel", "cancel_all", "close_and_cancel")
TAKING = ("close_given", "detach_given", "keep_given", "close_and_cancel")
HEADS = ("trials", "cancelled", "robbed", "failed calls", "canaries")

TEXT = """
Each trial plays a story (`tests/python/support/scenarios`: connections,
servers, streams, TLS, datagrams, pipes, subprocesses, signals, `sock_*`,
`sendfile`, misuse of sockets) while two native threads open and close
descriptors at full speed: it is cancelled at a random await, or its sockets
are closed, detached or shut down, or its peers vanish, and about half the time
one of its system calls fails as well. After every trial every canary is looked
at, and descriptors and poller must be what they were. The engine is that of
the stories over TLS: OpenSSL called directly, or Python's SSLObject.
"""


def row_of(result):
    """What of one run goes into the table."""
    actions = collections.Counter(result["actions"])
    return collections.Counter(
        {
            "trials": result["trials"],
            "cancelled": sum(actions[name] for name in CANCELLING),
            "robbed": sum(actions[name] for name in TAKING),
            "failed calls": result["faults"],
            "canaries": result["canaries"],
        }
    )


def table(rows):
    yield f"| Python | poller | TLS engine | {' | '.join(HEADS)} |"
    yield "|---|---|---|" + "---:|" * len(HEADS)
    total = collections.Counter()
    for (python, poller, engine), row in sorted(rows.items()):
        total += row
        cells = " | ".join(f"{row[head]:,}" for head in HEADS)
        yield f"| {python} | {poller} | {engine} | {cells} |"
    cells = " | ".join(f"{total[head]:,}" for head in HEADS)
    yield f"| all | | | {cells} |"


def seeds_of(failures):
    return ", ".join(f"{one['poller']} {one['seed']}" for one in failures)


def verdict(failures):
    open_ones = [one for one in failures if "mended" not in one]
    if open_ones:
        return f"Runs that failed: {len(open_ones)} ({seeds_of(open_ones)})."
    text = "Canaries damaged: 0. Descriptors and registrations left: 0."
    for reason in sorted({one["mended"] for one in failures}):
        runs = [one for one in failures if one["mended"] == reason]
        text += (
            f" Runs that were stopped, and played again: {len(runs)}"
            f" ({seeds_of(runs)}): {reason}."
        )
    return fill(text)


def section(results):
    """The lines of the section, its marks included."""
    rows = collections.defaultdict(collections.Counter)
    failures = [result for result in results if result.get("failed")]
    for result in results:
        if not result.get("failed"):
            key = (result["python"], result["poller"], result["engine"])
            rows[key] += row_of(result)
    yield BEGIN
    yield "## Canaries"
    yield TEXT.rstrip()
    yield ""
    yield from table(rows)
    yield ""
    yield verdict(failures)
    yield ""
    yield fill(
        "`tests/python/isolated/canary_document.py` writes this from what"
        " `canaries.py --results` has noted."
    )
    yield END


def main():
    lines = Path(sys.argv[1]).read_text().splitlines()
    new = "\n".join(section([json.loads(line) for line in lines]))
    text = DOCUMENT.read_text()
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        text = before + new + rest.partition(END)[2]
    else:
        text = f"{text.rstrip()}\n\n{new}\n"
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
