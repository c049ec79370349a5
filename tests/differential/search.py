# SPDX-License-Identifier: MIT
"""Finds programs on which loops differ, and makes them small."""

import collections
import gc
import re

import generate
import hypothesis
from compare import Judge
from hypothesis import HealthCheck, Phase

# So many programs are drawn from one seed: hypothesis remembers all of them.
CHUNK = 100
KIND = re.compile(r"# (\w+)$", re.MULTILINE)


class Difference(AssertionError):
    """The loops did not do the same."""

    def __init__(self, source, name, text):
        super().__init__(text)
        self.source = source
        self.name = name
        self.text = text


class Search:
    """Plays random programs until it has played enough of them."""

    def __init__(self, judge, kinds=generate.KINDS, before=None):
        self._judge = judge
        self._kinds = tuple(kinds)
        self._before = before or (lambda source: None)
        self.verdicts = collections.Counter()
        self.of_kind = collections.Counter()
        self.programs = 0
        self._found = None

    def _settings(self, count, shrinks):
        phases = (
            [Phase.generate, Phase.shrink] if shrinks else [Phase.generate]
        )
        return hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=phases,
            report_multiple_bugs=False,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        )

    def _try(self, source):
        self._before(source)
        verdicts = self._judge.judge(source)
        if self._found is None:
            self.programs += 1
            self.of_kind[KIND.search(source)[1]] += 1
            for name, verdict in verdicts.items():
                self.verdicts[name, verdict.how] += 1
        self.look(source, verdicts)

    def look(self, source, verdicts):
        """Stop at a difference."""
        for name, verdict in verdicts.items():
            if verdict.how == "differs":
                self._found = Difference(source, name, verdict.text)
                raise self._found

    def chunk(self, count, seed, shrinks=True):
        """Play so many programs; the first difference, made small, or None."""
        self._found = None

        @hypothesis.seed(seed)
        @self._settings(count, shrinks)
        @hypothesis.given(generate.programs(self._kinds))
        def run(source):
            self._try(source)

        try:
            run()
        except Difference as difference:
            # Hypothesis plays the smallest once more, at last.
            return difference
        except hypothesis.errors.Flaky:
            return self._found
        finally:
            gc.unfreeze()
            gc.collect()
        return None


def notice(kinds_of, programs, seed):
    """How many programs it took to see that each of these loops is broken.

    They are names, and the kinds of programs to try. A name that is missing
    was not seen in so many programs.
    """
    noticed = {}
    for kinds in dict.fromkeys(kinds_of.values()):
        names = [name for name in kinds_of if kinds_of[name] == kinds]
        noticed |= notice_by(kinds, names, programs, seed)
    return noticed


def notice_by(kinds, names, programs, seed):
    """The same, by programs of these kinds."""
    judge = Judge(names)
    search = Search(judge, kinds)
    noticed = {}

    def look(source, verdicts):
        for name, verdict in verdicts.items():
            if verdict.how == "differs":
                noticed[name] = search.programs
                judge.names.remove(name)

    search.look = look
    for number in range(0, programs, CHUNK):
        if judge.names:
            search.chunk(min(CHUNK, programs - number), seed + number, False)
    return noticed


def without_lines(source, is_failing):
    """Leave out what the program fails without, line by line."""
    lines = source.splitlines()
    size = len(lines) // 2
    while size > 0:
        at = 0
        while at < len(lines):
            shorter = lines[:at] + lines[at + size :]
            if is_failing("\n".join(shorter) + "\n"):
                lines = shorter
            else:
                at += 1
        size //= 2
    return "\n".join(lines) + "\n"
