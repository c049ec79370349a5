# SPDX-License-Identifier: MIT
"""What the tests against real software share."""

import pytest

from support.tls import use_engine


@pytest.fixture(params=["tcp", "unix", "tls-openssl", "tls-sslobject"])
def way(request, monkeypatch):
    """How to reach a server: tcp, unix or tls, this by each engine."""
    kind, _, engine = request.param.partition("-")
    if engine:
        use_engine(request.config, monkeypatch, engine)
    return kind
