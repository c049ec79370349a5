# SPDX-License-Identifier: MIT
"""Signatures: what asyncio's loop can be called with, ours can."""

import asyncio
import inspect

import pytest

from support.loops import loop_class

row = pytest.mark.row

METHODS = sorted(
    name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("_")
)

# The positional names of the abstract class, where the concrete one says
# more or other things than the abstract one.
REFERENCE = asyncio.SelectorEventLoop


def parameters(function):
    found = dict(inspect.signature(function).parameters)
    found.pop("self", None)
    return found


@row("P1A-006")
@pytest.mark.one_poller
@pytest.mark.parametrize("name", METHODS)
def test_method_is_overridden(backend, name):
    ours = inspect.getattr_static(loop_class(backend), name)
    assert ours is not inspect.getattr_static(asyncio.AbstractEventLoop, name)


def documented(ours, theirs, parameter):
    """The parameter in the same place, under the documentation's name.

    CPython's own class names a few otherwise than the documentation and the
    abstract class do.
    """
    place = list(theirs).index(parameter.name)
    return list(ours.values())[place] if place < len(ours) else None


def test_order_of_positional_parameters(backend):
    """By position, every call means the same."""
    kind = loop_class(backend)
    for name in METHODS:
        ours, theirs = (
            [
                p.default
                for p in parameters(getattr(owner, name)).values()
                if p.kind is p.POSITIONAL_OR_KEYWORD
            ]
            for owner in (kind, REFERENCE)
        )
        assert ours[: len(theirs)] == theirs, name


@row(
    "P1A-066",
    "P1A-117",
    "P2A-001",
    "P2A-006",
    "P2A-024",
    "P2A-037",
    "P1A-093",
    "P1A-110",
)
@pytest.mark.one_poller
@pytest.mark.parametrize("name", METHODS)
def test_signature(backend, name):
    """Every parameter of CPython's method, of the same kind and default."""
    ours = parameters(getattr(loop_class(backend), name))
    theirs = parameters(getattr(REFERENCE, name))
    for parameter in theirs.values():
        mine = ours.get(parameter.name) or documented(ours, theirs, parameter)
        assert mine is not None, f"{name} lacks {parameter}"
        assert mine.kind == parameter.kind, f"{name}: {mine} is not like it"
        assert mine.default == parameter.default, f"{name}: {mine}"
    abstract = parameters(getattr(asyncio.AbstractEventLoop, name))
    for extra in set(ours) - set(theirs) - set(abstract):
        assert ours[extra].default is not inspect.Parameter.empty or (
            ours[extra].kind
            in (
                inspect.Parameter.VAR_KEYWORD,
                inspect.Parameter.VAR_POSITIONAL,
            )
        ), f"{name} demands {extra}"


@pytest.mark.one_poller
@pytest.mark.parametrize("name", METHODS)
def test_documentation(backend, name):
    """help() has something to say about every method."""
    if backend == "oracle":
        pytest.skip("CPython documents its methods elsewhere")
    assert inspect.getdoc(getattr(loop_class(backend), name))


@row("P2D-001", "P2D-002", "P2D-003", "P2D-004")
@pytest.mark.one_poller
@pytest.mark.parametrize(
    "name",
    sorted(n for n in dir(asyncio.AbstractServer) if not n.startswith("_")),
)
async def test_server_methods(loop, name):
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    method = getattr(server, name)
    reference = getattr(asyncio.base_events.Server, name)
    assert parameters(method).keys() == parameters(reference).keys()
    server.close()
    await server.wait_closed()
