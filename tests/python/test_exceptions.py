# SPDX-License-Identifier: MIT
"""The exception handler API and the text of the default handler."""

import asyncio
import gc
import logging

import pytest

from support.loops import turn

row = pytest.mark.row


@pytest.fixture
def plain(loop):
    """A loop with asyncio's default handler."""
    loop.set_exception_handler(None)
    return loop


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, logger="asyncio")
    return caplog


def fail():
    raise ValueError("failed")


@row("P1A-205", "P1A-207", "P1A-213", "P1A-214", "P1A-216", "P4B-011")
def test_handler_is_called_for_a_failing_callback(loop):
    calls = []
    loop.set_exception_handler(lambda *args: calls.append(args))
    handle = loop.call_soon(fail)
    turn(loop)
    ((given, context),) = calls
    assert given is loop
    line = fail.__code__.co_firstlineno
    assert context["message"] == (
        f"Exception in callback fail() at {__file__}:{line}"
    )
    assert type(context["exception"]) is ValueError
    assert context["handle"] is handle
    assert set(context) == {"message", "exception", "handle"}


@row("P1A-204", "P1A-205")
def test_the_loop_goes_on_after_a_failing_callback(loop, errors):
    ran = []
    loop.call_soon(fail)
    loop.call_soon(ran.append, 1)
    loop.call_later(0, fail)
    loop.call_soon_threadsafe(fail)
    turn(loop)
    assert ran == [1]
    assert len(errors) == 3
    errors.clear()


@row("P1A-206", "P1A-208")
def test_get_and_reset_the_handler(loop):
    def handler(loop, context):
        pass

    assert loop.set_exception_handler(handler) is None
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


@row("P1A-207")
@pytest.mark.parametrize("wrong", [1, "x", object(), []])
def test_handler_of_a_wrong_type(loop, wrong):
    with pytest.raises(
        TypeError, match="^A callable object or None is expected, got "
    ):
        loop.set_exception_handler(wrong)


@row("P1A-212", "P1A-220")
def test_call_exception_handler_passes_everything_on(loop, errors):
    context = {"message": "mine", "other": object(), "number": 1}
    loop.call_exception_handler(context)
    assert errors == [context]
    assert errors[0] is context
    errors.clear()


@row("P1A-209", "P4B-009")
def test_default_handler_logs_an_error(plain, log):
    plain.call_soon(fail)
    turn(plain)
    (record,) = log.records
    assert record.name == "asyncio"
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is ValueError
    first, second = record.getMessage().splitlines()
    assert first.startswith("Exception in callback fail() at ")
    assert second.startswith("handle: <Handle fail() at ")


@row("P1A-209", "P4B-009", "P1A-220")
def test_default_handler_text(plain, log):
    plain.default_exception_handler(
        {
            "message": "the message",
            "zebra": [1],
            "alpha": "text",
            "exception": None,
        }
    )
    (record,) = log.records
    assert record.getMessage() == "the message\nalpha: 'text'\nzebra: [1]"
    assert record.exc_info in (None, False)


@row("P1A-211")
@pytest.mark.parametrize("context", [{}, {"message": ""}, {"message": None}])
def test_default_handler_without_a_message(plain, log, context):
    plain.call_exception_handler(context)
    assert log.records[0].getMessage() == "Unhandled exception in event loop"


@row("P4B-009")
def test_default_handler_with_an_exception_instance(plain, log):
    try:
        fail()
    except ValueError as exc:
        error = exc
    plain.call_exception_handler({"message": "m", "exception": error})
    kind, value, traceback = log.records[0].exc_info
    assert kind is ValueError and value is error
    assert traceback is error.__traceback__


@row("P4B-009")
def test_default_handler_shows_tracebacks_of_origins(plain, log):
    import traceback

    stack = traceback.extract_stack()
    plain.call_exception_handler(
        {"message": "m", "source_traceback": stack, "handle_traceback": stack}
    )
    text = log.records[0].getMessage()
    assert "Handle created at (most recent call last):\n" in text
    assert "Object created at (most recent call last):\n" in text
    assert "test_default_handler_shows_tracebacks_of_origins" in text
    assert text.index("Handle created") < text.index("Object created")


@row("P1A-210")
def test_custom_handler_may_delegate(loop, log):
    loop.set_exception_handler(
        lambda loop, context: loop.default_exception_handler(context)
    )
    loop.call_soon(fail)
    turn(loop)
    assert len(log.records) == 1


@row("P1A-212", "P4B-010")
def test_failing_custom_handler(loop, log):
    def handler(loop, context):
        raise AttributeError("handler failed")

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    turn(loop)
    (record,) = log.records
    first, second = record.getMessage().splitlines()
    assert first == "Unhandled error in exception handler"
    assert second.startswith("context: {'message': 'Exception in callback ")
    assert record.exc_info[0] is AttributeError


@row("P4B-010")
def test_failing_default_handler(plain, log):
    def default_exception_handler(context):
        raise AttributeError("default handler failed")

    plain.default_exception_handler = default_exception_handler
    plain.call_soon(fail)
    turn(plain)
    (record,) = log.records
    assert record.getMessage() == "Exception in default exception handler"
    assert record.exc_info[0] is AttributeError


@row("P4B-010")
def test_both_handlers_failing(loop, log):
    def handler(loop, context):
        raise AttributeError("handler failed")

    def default_exception_handler(context):
        raise KeyError("default handler failed")

    loop.set_exception_handler(handler)
    loop.default_exception_handler = default_exception_handler
    loop.call_soon(fail)
    turn(loop)
    (record,) = log.records
    assert record.getMessage() == (
        "Exception in default exception handler while handling an unexpected"
        " error in custom exception handler"
    )


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exit_exceptions_of_a_handler_leave_the_loop(loop, kind):
    def handler(loop, context):
        raise kind()

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    with pytest.raises(kind):
        loop.run_forever()
    loop.set_exception_handler(None)


@row("P1A-221")
def test_subclass_may_override_call_exception_handler(backend, errors):
    from support.loops import loop_class

    seen = []

    class Mine(loop_class(backend)):
        def call_exception_handler(self, context):
            seen.append(context["message"])

    loop = Mine()
    try:
        loop.call_soon(fail)
        turn(loop)
    finally:
        loop.close()
    assert len(seen) == 1


def test_failing_done_callback(loop, errors):
    future = loop.create_future()
    future.add_done_callback(lambda _: fail())
    future.set_result(None)
    turn(loop)
    (context,) = errors
    errors.clear()
    assert type(context["exception"]) is ValueError
    assert "<lambda>" in context["message"]


def test_never_retrieved_task_exception_on_the_default_handler(plain, log):
    async def work():
        raise ValueError("never seen")

    task = plain.create_task(work())
    turn(plain)
    del task
    gc.collect()
    (record,) = log.records
    assert record.getMessage().startswith(
        "Task exception was never retrieved\nfuture: <Task finished name="
    )


def test_no_reference_cycle_keeps_the_arguments(loop, errors):
    import weakref

    class Marker:
        pass

    marker = Marker()
    alive = weakref.ref(marker)

    def failing(argument):
        raise ValueError

    loop.call_soon(failing, marker)
    del marker
    turn(loop)
    errors.clear()
    gc.collect()
    assert alive() is None


def test_exception_outside_the_loop_keeps_its_traceback(loop):
    async def inner():
        fail()

    with pytest.raises(ValueError) as caught:
        loop.run_until_complete(inner())
    names = [entry.name for entry in caught.traceback]
    assert names[-2:] == ["inner", "fail"]


def test_handlers_are_per_loop(new_loop):
    one, two = new_loop(), new_loop()
    seen = []
    one.set_exception_handler(lambda *_: seen.append("one"))
    two.set_exception_handler(lambda *_: seen.append("two"))
    for loop in (two, one):
        loop.call_soon(fail)
        turn(loop)
    assert seen == ["two", "one"]


@row("P1A-212")
def test_call_exception_handler_on_a_closed_loop(loop):
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append(context))
    loop.close()
    loop.call_exception_handler({"message": "late"})
    assert seen == [{"message": "late"}]


def test_asyncio_task_cancelled_in_callback_is_not_reported(loop):
    async def work():
        raise asyncio.CancelledError

    task = loop.create_task(work())
    turn(loop)
    turn(loop)
    assert task.cancelled()
