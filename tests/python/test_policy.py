# SPDX-License-Identifier: MIT
"""Event loop policies: becket's own, and asyncio's functions on it."""

import asyncio
import warnings

import pytest

from support.leaks import join_all, spawn
from support.loops import ORACLE, PY312, PY314, loop_class
from support.procs import check, run_code

row = pytest.mark.row
needs_becket = pytest.mark.becket_only("these are becket's own names")

pytestmark = [
    pytest.mark.before(3, 16),
    pytest.mark.one_poller,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def policy_class(backend):
    if backend == ORACLE:
        return asyncio.DefaultEventLoopPolicy
    import becket

    return becket.EventLoopPolicy


@pytest.fixture
def policy(backend):
    """The policy of the process for one test; it notes what it is asked."""

    class Noting(policy_class(backend)):
        def get_event_loop(self):
            self.calls.append("get")
            return super().get_event_loop()

        def set_event_loop(self, loop):
            self.calls.append(("set", loop))
            super().set_event_loop(loop)

        def new_event_loop(self):
            self.calls.append("new")
            return super().new_event_loop()

    policy = Noting()
    policy.calls = []
    asyncio.set_event_loop_policy(policy)
    yield policy
    asyncio.set_event_loop(None)
    asyncio.set_event_loop_policy(None)


@row("P1B-001", "P1B-002", "P1B-003", "P1B-004", "P1B-026")
def test_asyncios_functions_ask_the_policy(backend, policy):
    loop = asyncio.new_event_loop()
    assert isinstance(loop, loop_class(backend))
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    assert policy.calls == ["new", ("set", loop), "get"]
    asyncio.set_event_loop(None)
    loop.close()


@row("P1B-002")
def test_the_running_loop_comes_before_the_policy(policy):
    async def inside():
        return asyncio.get_event_loop()

    loop = policy.new_event_loop()
    policy.calls.clear()
    assert loop.run_until_complete(inside()) is loop
    assert policy.calls == []
    loop.close()


@row("P1B-022", "P1B-033", "P1B-034")
def test_one_policy_for_the_process(policy):
    assert asyncio.get_event_loop_policy() is policy
    seen = []
    work = spawn(lambda: seen.append(asyncio.get_event_loop_policy()))
    join_all([work])
    assert seen == [policy]
    asyncio.set_event_loop_policy(None)
    default = asyncio.get_event_loop_policy()
    assert default is not policy
    assert asyncio.get_event_loop_policy() is default


@row("P1B-023", "P2F-017")
@pytest.mark.parametrize("wrong", [object(), 1, "policy"])
def test_what_is_no_policy(policy, wrong):
    with pytest.raises(TypeError):
        asyncio.set_event_loop_policy(wrong)
    assert asyncio.get_event_loop_policy() is policy


@row("P1B-027", "P1B-028", "P1B-031", "P1B-032")
def test_loops_of_a_policy(backend):
    policy = policy_class(backend)()
    assert isinstance(policy, asyncio.AbstractEventLoopPolicy)
    loop = policy.new_event_loop()
    assert isinstance(loop, loop_class(backend))
    policy.set_event_loop(loop)
    assert policy.get_event_loop() is loop
    other = policy.new_event_loop()
    assert other is not loop
    assert policy.get_event_loop() is loop
    policy.set_event_loop(None)
    for made in (loop, other):
        made.close()


@row("P1B-025", "P1B-028")
def test_a_loop_for_each_thread(backend):
    policy = policy_class(backend)()
    mine = policy.new_event_loop()
    policy.set_event_loop(mine)

    def work():
        loop = policy.new_event_loop()
        policy.set_event_loop(loop)
        assert policy.get_event_loop() is loop
        policy.set_event_loop(None)
        loop.close()
        done.append(True)

    done = []
    join_all([spawn(work)])
    assert done == [True]
    assert policy.get_event_loop() is mine
    policy.set_event_loop(None)
    mine.close()


@row("P1B-025", "P1B-029")
def test_a_thread_without_a_loop(backend):
    policy = policy_class(backend)()
    caught = []

    def work():
        try:
            policy.get_event_loop()
        except RuntimeError as exc:
            caught.append(str(exc))

    join_all([spawn(work)])
    assert caught[0].startswith("There is no current event loop in thread")


@row("P1B-029", "P1B-030", "P2F-017")
def test_no_loop_and_wrong_loops(backend):
    policy = policy_class(backend)()
    policy.set_event_loop(None)
    with pytest.raises(RuntimeError, match="no current event loop"):
        policy.get_event_loop()
    for wrong in ("no loop", 1, object()):
        with pytest.raises(TypeError):
            policy.set_event_loop(wrong)


@row("P2F-008")
@pytest.mark.before(3, 14)
def test_the_main_thread_gets_a_loop(backend, policy):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = asyncio.get_event_loop()
    assert isinstance(loop, loop_class(backend))
    assert asyncio.get_event_loop() is loop
    assert policy.calls == ["get", ("set", loop), "new", "get"] or (
        policy.calls == ["get", "new", ("set", loop), "get"]
    )
    texts = [str(warning.message) for warning in caught]
    wanted = ["There is no current event loop"] if PY312 else []
    assert texts == wanted
    loop.close()


@row("P2F-009")
@pytest.mark.since(3, 14)
def test_the_main_thread_gets_no_loop(policy):
    with pytest.raises(
        RuntimeError,
        match="^There is no current event loop in thread 'MainThread'",
    ):
        asyncio.get_event_loop()


@needs_becket
@row("P1B-004", "P1B-033", "P1B-034", "P2H-003")
def test_install(backend):
    code = """
        import asyncio, becket
        loop = asyncio.new_event_loop()
        assert not isinstance(loop, becket.SelectorEventLoop)
        loop.close()
        becket.install()
        assert isinstance(
            asyncio.get_event_loop_policy(), becket.EventLoopPolicy
        )

        async def main():
            return asyncio.get_running_loop()

        assert isinstance(asyncio.run(main()), becket.SelectorEventLoop)
        loop = asyncio.new_event_loop()
        assert isinstance(loop, becket.SelectorEventLoop)
        assert loop.backend == "poll"
        loop.close()
        asyncio.set_event_loop_policy(None)
        loop = asyncio.new_event_loop()
        assert not isinstance(loop, becket.SelectorEventLoop)
        loop.close()
    """
    options = ("-W", "ignore")
    check(run_code(backend, code, options=options, BECKET_BACKEND="poll"))


@needs_becket
@row("P2F-010")
def test_install_warns_where_policies_are_deprecated(backend, monkeypatch):
    """Which Python it runs on is pretended, so that each can show it."""
    from becket import policy, versions

    monkeypatch.setattr(versions, "DEPRECATES_POLICIES", True)
    try:
        with pytest.warns(
            DeprecationWarning, match=r"^becket\.install\(\) sets an event"
        ) as caught:
            policy.install()
    finally:
        asyncio.set_event_loop_policy(None)
    assert [warning.filename for warning in caught] == [__file__]


@needs_becket
@row("P2F-010")
def test_install_is_quiet_elsewhere(backend):
    from becket import policy

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policy.install()
    asyncio.set_event_loop_policy(None)
    assert bool(caught) is PY314


WITHOUT_POLICIES = """
    import asyncio, sys
    sys.version_info = (3, 16, 0, "final", 0)
    for name in list(vars(asyncio)):
        if "Policy" in name or name.endswith("event_loop_policy"):
            delattr(asyncio, name)
    # Since 3.14 it knows the deprecated names.
    vars(asyncio).pop("__getattr__", None)
    for name in ("AbstractEventLoopPolicy", "DefaultEventLoopPolicy"):
        assert not hasattr(asyncio, name)
    import becket
    for name in ("install", "EventLoopPolicy"):
        assert name not in becket.__all__
        assert name not in dir(becket)
        try:
            getattr(becket, name)
        except AttributeError as exc:
            assert str(exc) == f"module 'becket' has no attribute '{name}'"
        else:
            raise AssertionError(name)
    loop = becket.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
"""


@needs_becket
@row("P2F-011", "P2H-003", "P2I-006")
def test_a_python_without_policies(backend):
    """It has the package without the two names that need them."""
    check(run_code(backend, WITHOUT_POLICIES))
