# SPDX-License-Identifier: MIT
"""Certificates that are made when tests need them, for an hour or two."""

import functools
import ssl
import subprocess
import tempfile
from pathlib import Path

NAME = "localhost"


@functools.cache
def make_certificate(name=NAME):
    """(certificate, key): paths of files for a server of this name."""
    folder = Path(tempfile.mkdtemp(prefix="becket-certificates-"))
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-days", "2"]
        + ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-keyout", str(key), "-out", str(certificate)]
        + ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return certificate, key


def server_context(version=None, name=NAME):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(name))
    return pin(context, version)


def client_context(version=None, name=NAME):
    context = ssl.create_default_context(cafile=make_certificate(name)[0])
    return pin(context, version)


def pin(context, version):
    if version is not None:
        context.minimum_version = version
        context.maximum_version = version
    return context
