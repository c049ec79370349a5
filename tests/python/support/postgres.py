# SPDX-License-Identifier: MIT
"""A PostgreSQL of the tests' own, with TLS and a Unix socket."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from support.certificates import NAME, client_context, make_certificate
from support.programs import LIMIT, find, on_free_ports, running

USER = "tester"
PASSWORD = "only for the tests"
SYSTEM_USER = "postgres"  # PostgreSQL refuses to run as root
READY = "database system is ready to accept connections"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "ssl": "on",
    "ssl_cert_file": "certificate.pem",
    "ssl_key_file": "key.pem",
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "log_min_messages": "log",
}


class Postgres(NamedTuple):
    folder: Path
    port: int

    def reach(self, way):
        """Arguments for asyncpg's connect()."""
        found = {"user": USER, "database": "postgres", "port": self.port}
        if way == "unix":
            return {**found, "host": str(self.folder)}
        found |= {"host": NAME, "password": PASSWORD}
        return {**found, "ssl": client_context() if way == "tls" else False}


def find_postgres(name):
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return find(name, "postgresql", *map(str, versions))


def as_user():
    """For subprocess: what runs a command without root's rights."""
    is_root = os.geteuid() == 0
    return {"user": SYSTEM_USER, "group": SYSTEM_USER} if is_root else {}


def give(path):
    if os.geteuid() == 0:
        shutil.chown(path, SYSTEM_USER, SYSTEM_USER)


def make_cluster(folder):
    """initdb: a password over the network, none on the Unix socket."""
    give(folder)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    give(secret)
    data = folder / "data"
    subprocess.run(
        [find_postgres("initdb"), "-D", data, "-U", USER, "--no-sync"]
        + ["--auth-local=trust", "--auth-host=scram-sha-256"]
        + [f"--pwfile={secret}", "--encoding=UTF8", "--no-locale"],
        check=True,
        capture_output=True,
        timeout=LIMIT * 2,
        cwd=folder,
        **as_user(),
    )
    for source, name in zip(
        make_certificate(NAME), ("certificate.pem", "key.pem")
    ):
        shutil.copy(source, data / name)
        (data / name).chmod(0o600)
        give(data / name)
    return data


@contextlib.contextmanager
def postgres():
    program = find_postgres("postgres")
    # Not below a folder that only root may enter.
    with tempfile.TemporaryDirectory(prefix="becket-postgres-") as name:
        folder = Path(name)
        data = make_cluster(folder)

        def start(port):
            command = [program, "-D", data, "-p", str(port), "-k", folder]
            for key, value in SETTINGS.items():
                command += ["-c", f"{key}={value}"]
            return running(
                command,
                folder / "log",
                READY,
                signal.SIGINT,  # ends its sessions, too
                cwd=folder,
                **as_user(),
            )

        with on_free_ports(1, start) as (_, port):
            yield Postgres(folder, port)
