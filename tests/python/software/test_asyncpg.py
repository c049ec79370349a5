# SPDX-License-Identifier: MIT
"""asyncpg on a real PostgreSQL: by TCP, its Unix socket, and TLS."""

import asyncio
import contextlib
import io
import os
import ssl

import pytest

from support.net import until
from support.postgres import postgres

asyncpg = pytest.importorskip("asyncpg")

pytestmark = [pytest.mark.usefixtures("way"), pytest.mark.one_poller]

LIMIT = 10


@pytest.fixture(scope="module")
def database():
    with postgres() as found:
        yield found


@contextlib.asynccontextmanager
async def connected(database, way, **kwargs):
    options = {**database.reach(way), "timeout": LIMIT, **kwargs}
    connection = await asyncpg.connect(**options)
    try:
        yield connection
    finally:
        await connection.close(timeout=LIMIT)


@contextlib.asynccontextmanager
async def pooled(database, way, **kwargs):
    async with asyncpg.create_pool(
        **database.reach(way), timeout=LIMIT, **kwargs
    ) as pool:
        yield pool


async def test_the_way(loop, database, way):
    async with connected(database, way) as connection:
        row = await connection.fetchrow(
            "SELECT ssl, version, inet_client_port() FROM pg_stat_ssl"
            " WHERE pid = pg_backend_pid()"
        )
        assert row["ssl"] is (way == "tls")
        assert (row["version"] is not None) is (way == "tls")
        assert (row["inet_client_port"] is None) is (way == "unix")


async def test_queries(loop, database, way):
    async with connected(database, way) as connection:
        assert await connection.fetchval("SELECT 1 + 1") == 2
        rows = await connection.fetch(
            "SELECT n, n::text AS t FROM generate_series(1, 20000) AS n"
        )
        wanted = [(n, str(n)) for n in range(1, 20001)]
        assert [tuple(row) for row in rows] == wanted
        statement = await connection.prepare("SELECT $1::int * $2::int")
        for number in range(50):
            assert await statement.fetchval(number, 3) == number * 3
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetchval("SELECT 1 / 0")
        assert await connection.fetchval("SELECT 'still here'")


@pytest.mark.parametrize("size", [0, 1, 65536, 4 << 20])
async def test_large_values(loop, database, way, size):
    body = os.urandom(size)
    async with connected(database, way) as connection:
        row = await connection.fetchrow("SELECT $1::bytea AS b", body)
        assert row["b"] == body


async def test_transactions_and_cursors(loop, database, way):
    async with connected(database, way) as connection:
        await connection.execute("CREATE TEMPORARY TABLE t (n int)")
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                raise ZeroDivisionError
        assert await connection.fetchval("SELECT count(*) FROM t") == 0
        async with connection.transaction():
            cursor = connection.cursor("SELECT generate_series(1, 1000)")
            assert [row[0] async for row in cursor] == list(range(1, 1001))


async def test_copy(loop, database, way):
    async with connected(database, way) as connection:
        await connection.execute("CREATE TEMPORARY TABLE t (n int, b bytea)")
        records = [(number, os.urandom(100)) for number in range(10_000)]
        done = await connection.copy_records_to_table("t", records=records)
        assert done == "COPY 10000"
        rows = await connection.fetch("SELECT n, b FROM t ORDER BY n")
        assert [tuple(row) for row in rows] == records
        out = io.BytesIO()
        await connection.copy_from_query(
            "SELECT n FROM t ORDER BY n", output=out
        )
        text = b"".join([b"%d\n" % number for number in range(10_000)])
        assert out.getvalue() == text

        async def pieces():
            for start in range(0, len(text), 1000):
                yield text[start : start + 1000]
                await asyncio.sleep(0)

        await connection.execute("TRUNCATE t")
        await connection.copy_to_table("t", source=pieces(), columns=["n"])
        total = await connection.fetchval("SELECT sum(n) FROM t")
        assert total == sum(range(10_000))


async def test_notifications(loop, database, way):
    heard = asyncio.Queue()

    def listener(connection, pid, channel, payload):
        heard.put_nowait((channel, payload))

    async with (
        connected(database, way) as ear,
        connected(database, way) as mouth,
    ):
        await ear.add_listener("news", listener)
        for number in range(50):
            await mouth.execute("SELECT pg_notify('news', $1)", str(number))
            assert await heard.get() == ("news", str(number))
        await ear.remove_listener("news", listener)
        await mouth.execute("NOTIFY news")
        await ear.fetchval("SELECT 1")
        assert heard.empty()


SLEEPERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'
"""


async def test_cancellation(loop, database, way):
    """The server stops too; the connection stays good."""
    async with (
        connected(database, way) as connection,
        connected(database, way) as observer,
    ):

        async def sleepers(wanted):
            while await observer.fetchval(SLEEPERS) != wanted:
                await asyncio.sleep(0.01)

        for _ in range(3):
            task = asyncio.create_task(
                connection.execute("SELECT pg_sleep(60)")
            )
            await sleepers(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await sleepers(0)
            assert await connection.fetchval("SELECT 2") == 2


async def test_timeouts(loop, database, way):
    """The client's and the server's own."""
    async with connected(database, way) as connection:
        with pytest.raises(asyncio.TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.1)
        await connection.execute("SET statement_timeout = 100")
        with pytest.raises(asyncpg.QueryCanceledError):
            await connection.execute("SELECT pg_sleep(60)")
        assert await connection.fetchval("SELECT 3") == 3


async def test_pool(loop, database, way):
    async with pooled(database, way, min_size=2, max_size=8) as pool:

        async def one(number):
            async with pool.acquire() as connection:
                pid = await connection.fetchval("SELECT pg_backend_pid()")
                body = b"%d." % number * 10_000
                got = await connection.fetchval("SELECT $1::bytea", body)
                assert got == body
                return pid

        pids = await asyncio.gather(*map(one, range(100)))
        assert 2 <= len(set(pids)) <= 8
        assert pool.get_size() == len(set(pids))
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(8):
                await stack.enter_async_context(pool.acquire())
            with pytest.raises(asyncio.TimeoutError):
                await pool.acquire(timeout=0.05)


async def test_server_ends_a_session(loop, database, way):
    async with (
        connected(database, way) as victim,
        connected(database, way) as killer,
    ):
        pid = victim.get_server_pid()
        asking = asyncio.create_task(victim.execute("SELECT pg_sleep(60)"))
        while await killer.fetchval(SLEEPERS) != 1:
            await asyncio.sleep(0.01)
        assert await killer.fetchval("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(
            (asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)
        ):
            await asking
        await until(victim.is_closed)


async def test_refused(loop, database, way):
    """A wrong password, and a certificate that nobody vouches for."""
    if way == "unix":
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            async with connected(database, way, user="nobody"):
                pass
        return
    with pytest.raises(asyncpg.InvalidPasswordError):
        async with connected(database, way, password="wrong"):
            pass
    if way == "tls":
        strange = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connected(database, way, ssl=strange):
                pass
