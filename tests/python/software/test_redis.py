# SPDX-License-Identifier: MIT
"""redis-py on a real Redis: by TCP, its Unix socket, and TLS."""

import asyncio
import contextlib
import os
import ssl

import pytest

from support.certificates import make_certificate
from support.net import refusing_port
from support.redis_server import redis_server

redis = pytest.importorskip("redis.asyncio")
exceptions = pytest.importorskip("redis.exceptions")

retry = pytest.importorskip("redis.asyncio.retry")
backoff = pytest.importorskip("redis.backoff")

pytestmark = [pytest.mark.usefixtures("way"), pytest.mark.one_poller]

LIMIT = 10
NO_RETRY = retry.Retry(backoff.NoBackoff(), 0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as found:
        yield found


@contextlib.asynccontextmanager
async def connected(server, way, **kwargs):
    options = {"socket_timeout": LIMIT, **server.reach(way), **kwargs}
    async with redis.Redis(**options) as client:
        yield client


@pytest.mark.parametrize("size", [0, 1, 65536, 4 << 20])
async def test_values(loop, server, way, size):
    async with connected(server, way) as client:
        body = os.urandom(size)
        await client.set("value", body)
        assert await client.get("value") == body
        assert await client.strlen("value") == size


async def test_pipeline(loop, server, way):
    """A thousand commands at once, as a transaction and without."""
    async with connected(server, way) as client:
        for is_transaction in (True, False):
            await client.delete("counter")
            async with client.pipeline(transaction=is_transaction) as pipe:
                for number in range(1000):
                    pipe.set(f"key:{number}", str(number) * 50)
                    pipe.incr("counter")
                answers = await pipe.execute()
            assert answers[1::2] == list(range(1, 1001))
        names = [f"key:{number}" for number in range(1000)]
        wanted = [(str(number) * 50).encode() for number in range(1000)]
        assert await client.mget(names) == wanted
        found = [key async for key in client.scan_iter("key:*", count=50)]
        assert sorted(found) == sorted(name.encode() for name in names)
        assert await client.delete(*names) == 1000


async def test_errors_keep_the_connection(loop, server, way):
    async with connected(server, way, single_connection_client=True) as client:
        number = await client.client_id()
        await client.set("text", "x")
        with pytest.raises(exceptions.ResponseError):
            await client.incr("text")
        assert await client.client_id() == number


@contextlib.asynccontextmanager
async def listening(client):
    """redis-py does not wait for the end of such a connection: we do.

    Over TLS it is an error if the server's last answers come after it.
    """
    async with client.pubsub(ignore_subscribe_messages=True) as heard:
        yield heard
        writer = heard.connection._writer
    with contextlib.suppress(ssl.SSLError):
        await writer.wait_closed()


async def test_publish_and_subscribe(loop, server, way):
    async with (
        connected(server, way) as ear,
        connected(server, way) as mouth,
        listening(ear) as heard,
    ):
        await heard.subscribe("news")
        await heard.psubscribe("n?ws:*")
        # The server's word that both are in force.
        for _ in range(2):
            await heard.get_message(timeout=LIMIT)
        for number in range(100):
            channel = "news" if number % 2 else "news:local"
            assert await mouth.publish(channel, f"number {number}") == 1
        for number in range(100):
            message = await heard.get_message(timeout=LIMIT)
            assert message["channel"] == (b"news:local", b"news")[number % 2]
            assert message["data"] == b"number %d" % number
        await heard.unsubscribe()
        await heard.punsubscribe()


async def test_blocking_pop(loop, server, way):
    async with (
        connected(server, way) as taker,
        connected(server, way) as giver,
    ):
        for number in range(20):
            taking = asyncio.create_task(taker.blpop("queue", LIMIT))
            await asyncio.sleep(0)
            await giver.rpush("queue", str(number))
            assert [*await taking] == [b"queue", b"%d" % number]
        assert await taker.blpop("queue", 0.05) is None


async def blocked(client, wanted):
    """Wait until so many clients block."""
    while (await client.info("clients"))["blocked_clients"] != wanted:
        await asyncio.sleep(0.005)


async def test_cancelled_pop_takes_nothing(loop, server, way):
    """What comes after the cancellation is still there for others."""
    async with (
        connected(server, way) as taker,
        connected(server, way) as giver,
    ):
        for number in range(10):
            taking = asyncio.create_task(taker.blpop("queue", LIMIT))
            await blocked(giver, 1)
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking
            await blocked(giver, 0)
            await giver.rpush("queue", f"kept {number}")
            assert await taker.lpop("queue") == b"kept %d" % number


async def test_many_clients(loop, server, way):
    async with connected(server, way, max_connections=10) as client:

        async def one(number):
            name, body = f"one:{number}", b"%d." % number * 2000
            await client.set(name, body)
            await asyncio.sleep(0)
            assert await client.getdel(name) == body

        for _ in range(5):
            await asyncio.gather(*map(one, range(10)))


async def test_connections_end(loop, server, way):
    """The server sees every connection go."""
    async with connected(server, way) as observer:

        async def others():
            return len(await observer.client_list()) - 1

        while await others():
            await asyncio.sleep(0.005)
        async with connected(server, way) as client:
            await asyncio.gather(*[client.ping() for _ in range(10)])
            assert await others() > 0
        while await others():
            await asyncio.sleep(0.005)


async def test_server_drops_the_client(loop, server, way):
    options = {"single_connection_client": True, "retry": NO_RETRY}
    async with (
        connected(server, way, **options) as victim,
        connected(server, way) as killer,
    ):
        number = await victim.client_id()
        waiting = asyncio.create_task(victim.blpop("never", LIMIT))
        await blocked(killer, 1)
        assert await killer.client_kill_filter(_id=number) == 1
        with pytest.raises(exceptions.ConnectionError):
            await waiting


async def test_refused(loop, server, way, tmp_path):
    """Nobody listens there, or nobody vouches for who does."""
    changes = {
        "unix": {"unix_socket_path": str(tmp_path / "nobody")},
        "tls": {"ssl_ca_certs": str(make_certificate("other.test")[0])},
    }
    with refusing_port() as port:
        change = changes.get(way, {"port": port})
        async with connected(server, way, retry=NO_RETRY, **change) as client:
            with pytest.raises(exceptions.ConnectionError):
                await client.ping()
