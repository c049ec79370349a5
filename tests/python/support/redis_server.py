# SPDX-License-Identifier: MIT
"""A Redis of the tests' own: TCP, a Unix socket, and TLS if it has it."""

import contextlib
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from support.certificates import NAME, make_certificate
from support.programs import LIMIT, find, on_free_ports, running

READY = "[Rr]eady to accept connections"
PACKAGE = "redis-server"


class RedisServer(NamedTuple):
    folder: Path
    port: int
    tls_port: int | None

    def reach(self, way):
        """Arguments for redis-py's clients."""
        if way == "unix":
            return {"unix_socket_path": str(self.folder / "socket")}
        if way == "tcp":
            return {"host": "127.0.0.1", "port": self.port}
        if self.tls_port is None:
            pytest.skip("this redis-server is built without TLS")
        trusted = str(make_certificate(NAME)[0])
        return {
            "host": NAME,
            "port": self.tls_port,
            "ssl": True,
            "ssl_ca_certs": trusted,
        }


def has_tls(program):
    """Asked to listen nowhere it ends, and says if TLS is unknown to it."""
    ended = subprocess.run(
        [program, "--port", "0", "--tls-port", "0"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return "Bad directive" not in ended.stdout + ended.stderr


def options(folder, port, tls_port):
    found = ["--bind", "127.0.0.1", "--port", str(port)]
    found += ["--unixsocket", folder / "socket", "--dir", folder]
    found += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
    if tls_port is not None:
        certificate, key = make_certificate(NAME)
        found += ["--tls-port", str(tls_port), "--tls-auth-clients", "no"]
        found += ["--tls-cert-file", certificate, "--tls-key-file", key]
        found += ["--tls-ca-cert-file", certificate]
    return found


@contextlib.contextmanager
def redis_server(folder):
    program = find("redis-server", PACKAGE)
    is_secure = has_tls(program)

    def start(port, tls_port):
        chosen = options(folder, port, tls_port if is_secure else None)
        return running([program, *chosen], folder / "log", READY)

    with on_free_ports(2, start) as (_, port, tls_port):
        yield RedisServer(folder, port, tls_port if is_secure else None)
