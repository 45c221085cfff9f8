"""Ctrl-C as a request to stop, and termination signals as Ctrl-C; the handlers before come back."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from vitreous.signals import interrupt_as_request, interrupt_on_termination, on_first_interrupt


@pytest.fixture(autouse=True)
def default_handler():
    """Python's own handler, whatever the shell that runs the tests has set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def press_control_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_interrupt_calls_the_action_and_the_second_one_interrupts():
    calls = []
    with pytest.raises(KeyboardInterrupt), on_first_interrupt(lambda: calls.append(1)):
        press_control_c()
        assert calls == [1]
        press_control_c()
    assert calls == [1]


def test_another_handler_stays_unless_it_is_replaced_on_purpose():
    calls = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with on_first_interrupt(lambda: calls.append(1)):
        press_control_c()
    assert not calls and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    with on_first_interrupt(lambda: calls.append(1), replace_any_handler=True):
        press_control_c()
    assert calls == [1] and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_request_counts_from_the_first_question_on():
    announced = []
    with interrupt_as_request(lambda: announced.append(1)) as is_requested:
        with pytest.raises(KeyboardInterrupt):
            press_control_c()
        assert not is_requested()
        press_control_c()
        assert is_requested() and announced == [1]
        with pytest.raises(KeyboardInterrupt):
            press_control_c()


def test_termination_interrupts():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupt_on_termination():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_change_nothing():
    results = []

    def enter():
        with on_first_interrupt(lambda: None), interrupt_on_termination():
            results.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert results == [True]


def test_sigterm_is_a_request_and_the_second_one_ends_as_before():
    calls, before = [], signal.signal(signal.SIGTERM, lambda *_: calls.append("before"))
    try:
        with interrupt_as_request(lambda: calls.append("announced")) as is_requested:
            assert not is_requested()
            os.kill(os.getpid(), signal.SIGTERM)
            assert is_requested() and calls == ["announced"]
            os.kill(os.getpid(), signal.SIGTERM)
            assert calls == ["announced", "before"]
        os.kill(os.getpid(), signal.SIGTERM)
        assert calls == ["announced", "before", "before"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_can_be_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    with interrupt_as_request(lambda: None, on_termination=False) as is_requested:
        assert not is_requested()
        assert signal.getsignal(signal.SIGTERM) is before
        press_control_c()
        assert is_requested()


BLOCKED_IN_A_COLLECTIVE = """
import ctypes
from vitreous.cli.console import stop_on_interrupt
with stop_on_interrupt() as interrupted:
    interrupted()
    print("waiting", flush=True)
    lock = ctypes.create_string_buffer(64)
    for _ in range(2):  # the second one waits for itself, whatever signals come
        ctypes.CDLL(None).pthread_mutex_lock(lock)
"""


def test_sigterm_ends_one_of_several_processes_at_once_even_in_a_call_that_never_returns():
    environment = os.environ | {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    command = [sys.executable, "-c", BLOCKED_IN_A_COLLECTIVE]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        process.terminate()
        try:
            assert process.wait(timeout=20) == -signal.SIGTERM
        finally:
            process.kill()
