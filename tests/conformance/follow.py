# SPDX-License-Identifier: MIT
"""Leads becket's Python half to what CPython's tests replace in asyncio.

A test that wants a system call to fail replaces a module in one of asyncio's:
mock.patch("asyncio.base_events.socket"). becket has modules of its own. For
the run of the tests they look at the same place, so that what a test puts
there takes effect.
"""

import importlib

# A module that becket uses; for each of becket's that does, where the tests
# replace it.
FOLLOWED = {
    "os": {"becket.unix": "asyncio.unix_events"},
    "signal": {"becket.signals": "asyncio.unix_events"},
    "socket": {
        "becket.addresses": "asyncio.base_events",
        "becket.connect": "asyncio.base_events",
        "becket.datagram": "asyncio.base_events",
        "becket.resolve": "asyncio.base_events",
        "becket.serve": "asyncio.base_events",
        "becket.sockets": "asyncio.base_events",
        "becket.unix": "asyncio.unix_events",
    },
    "sys": {"becket.signals": "asyncio.unix_events"},
}

# These are no functions that a test makes fail, and a mock has none of them.
GENUINE = ("AddressFamily", "SocketKind")


class Followed:
    """A module as another module knows it at the moment."""

    def __init__(self, place, name):
        self.__place = importlib.import_module(place)
        self.__name = name
        self.__original = importlib.import_module(name)

    def __getattr__(self, name):
        current = getattr(self.__place, self.__name)
        return getattr(self.__original if name in GENUINE else current, name)


def install():
    for name, places in FOLLOWED.items():
        for module, place in places.items():
            follower = Followed(place, name)
            setattr(importlib.import_module(module), name, follower)
