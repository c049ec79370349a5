# SPDX-License-Identifier: MIT
"""Starting and stopping uvicorn in a process of its own."""

import collections
import os
import pathlib
import queue
import re
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
START_LIMIT = 20.0
STOP_LIMIT = 10.0
RUNNING = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")


class DemoError(Exception):
    """Something that the user must be told, without a traceback."""


class Server:
    """A uvicorn process on a port that the kernel chose."""

    def __init__(self, name, loop, cpus):
        self.name = name
        self.loop = loop
        self.url = None
        self._log = collections.deque(maxlen=40)
        self._found = queue.SimpleQueue()
        self._process = self._start()
        if cpus is not None:
            os.sched_setaffinity(self._process.pid, cpus)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _start(self):
        command = [sys.executable, "-m", "uvicorn", "app:app"]
        command += ["--app-dir", str(HERE), "--port", "0"]
        command += ["--loop", self.loop, "--http", "httptools"]
        command += ["--no-access-log", "--no-use-colors", "--ws", "none"]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _read(self):
        """Keep the last lines of the log, and find the address in it."""
        for line in self._process.stderr:
            self._log.append(line)
            found = RUNNING.search(line)
            if found:
                self._found.put(found[1])
        self._found.put(None)

    def wait_started(self):
        try:
            self.url = self._found.get(timeout=START_LIMIT)
        except queue.Empty:
            raise self.failure(f"not started in {START_LIMIT:.0f} s") from None
        if self.url is None:
            self._process.wait(STOP_LIMIT)
            raise self.failure(f"exit code {self._process.returncode}")

    def check_alive(self):
        if self._process.poll() is not None:
            raise self.failure(f"exit code {self._process.returncode}")

    def stop(self):
        """End the process, politely first; returns its exit code."""
        self._process.terminate()
        try:
            code = self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_LIMIT)
            code = None
        self._reader.join(STOP_LIMIT)
        self._process.stderr.close()
        return code

    def cpu_seconds(self):
        """Processor time that the server has used, or None without /proc."""
        try:
            stat = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def failure(self, what):
        log = "".join(self._log).rstrip() or "(it said nothing)"
        return DemoError(f"uvicorn on {self.name}: {what}\n{log}")


def stop_all(servers):
    """Stop every server; raises for the first that did not end by itself."""
    started = time.monotonic()
    codes = [(server, server.stop()) for server in servers]
    for server, code in codes:
        if code is None:
            waited = time.monotonic() - started
            raise server.failure(f"had to be killed after {waited:.0f} s")
