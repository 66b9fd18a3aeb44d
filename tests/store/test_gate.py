"""A gate that is closed lets nobody through, and waits for those inside."""

import threading

import pytest

from dadmm.errors import StoreError
from dadmm.store.gate import Gate


def test_closing_waits_for_those_inside_and_refuses_others():
    gate, inside, leave, done = Gate(), threading.Event(), threading.Event(), []

    def write():
        with gate:
            inside.set()
            leave.wait()
            done.append("written")

    def close():
        gate.close()
        done.append("closed")

    threads = [threading.Thread(target=each) for each in (write, close)]
    threads[0].start()
    inside.wait()
    threads[1].start()
    while True:  # the other thread closes it sooner or later
        try:
            with gate:
                pass
        except StoreError:
            break
    assert done == []
    leave.set()
    for each in threads:
        each.join()
    assert done == ["written", "closed"]


def test_an_interrupt_while_entering_does_not_lock_its_own_thread_in():
    gate = Gate()
    gate.__enter__()
    gate.close()
    with pytest.raises(StoreError, match="ended"):
        gate.__enter__()
