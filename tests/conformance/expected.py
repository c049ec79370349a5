# SPDX-License-Identifier: MIT
"""The list of expected deviations: expected.toml read and applied.

A deviation of kind "skip" is not run. One of kind "deviates" is run and must
fail. Either has a reason. An entry that no longer holds is stale, and a stale
entry is an error: the list may only ever tell the truth.
"""

import fnmatch
import operator
import re
import sys
import tomllib
from dataclasses import dataclass, field

KINDS = ("skip", "deviates")

_OPERATORS = {">=": operator.ge, "<": operator.lt}


class ExpectedError(Exception):
    """The file cannot be used as it is."""


@dataclass
class Deviation:
    kind: str
    reason: str
    patterns: list
    exceptions: list  # patterns of tests that the entry does not mean
    matched: set = field(default_factory=set)  # patterns that met a test

    def matches(self, test_id):
        return self._first_match(test_id, self.patterns) and not (
            self._first_match(test_id, self.exceptions)
        )

    def _first_match(self, test_id, patterns):
        for pattern in patterns:
            if fnmatch.fnmatchcase(test_id, pattern):
                self.matched.add(pattern)
                return True
        return False


@dataclass
class Expected:
    deviations: list
    # The exact Pythons for which every pattern is known to match. Another
    # patch release may lack a test, which is no error.
    verified: bool
    is_newest: bool = False  # of those

    def find(self, test_id):
        """The deviation of a test, or None. All are asked, so that each
        pattern learns of its tests; two answers are an error."""
        found = [d for d in self.deviations if d.matches(test_id)]
        if len(found) > 1:
            reasons = " | ".join(d.reason for d in found)
            raise ExpectedError(f"{test_id} is listed twice: {reasons}")
        return found[0] if found else None

    def unmatched(self):
        return [
            pattern
            for deviation in self.deviations
            for pattern in deviation.patterns + deviation.exceptions
            if pattern not in deviation.matched
        ]


def read(path, version_info=sys.version_info):
    """The entries that apply to this Python."""
    with open(path, "rb") as stream:
        data = tomllib.load(stream)
    version = tuple(version_info[:3])
    deviations = []
    for entry in data["deviation"]:
        deviation = _parse(entry)
        if _applies(entry.get("python", ""), version):
            deviations.append(deviation)
    name = ".".join(map(str, version))
    verified = name in data["verified"]
    return Expected(deviations, verified, name == data["verified"][-1])


def _parse(entry):
    unknown = set(entry) - {"kind", "reason", "tests", "except", "python"}
    if unknown:
        raise ExpectedError(f"unknown keys {sorted(unknown)} in {entry}")
    if entry["kind"] not in KINDS:
        raise ExpectedError(f"kind {entry['kind']!r} is none of {KINDS}")
    if not entry["reason"].strip() or not entry["tests"]:
        raise ExpectedError(f"an entry needs a reason and tests: {entry}")
    tests, exceptions = entry["tests"], entry.get("except", [])
    return Deviation(entry["kind"], entry["reason"], tests, exceptions)


def _applies(conditions, version):
    """True if version meets all of the comma-separated conditions, such as
    ">=3.12, <3.13.1"."""
    for condition in filter(None, map(str.strip, conditions.split(","))):
        match = re.fullmatch(r"(>=|<)(\d+(?:\.\d+)*)", condition)
        if match is None:
            raise ExpectedError(f"python = {conditions!r} is not understood")
        bound = tuple(map(int, match[2].split(".")))
        if not _OPERATORS[match[1]](version, bound):
            return False
    return True
