"""The way of events from the engine to their readers."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

from motet.mailbox import Mailbox, _hand_out


def event(request: int, finish: str | None = None) -> Any:
    return SimpleNamespace(request=request, finish=finish)


class Engine:
    def __init__(self) -> None:
        self.cancelled: list[int] = []

    def cancel(self, request: int) -> None:
        self.cancelled.append(request)


def hand_out(events: list[Any], mailboxes: dict[int, Mailbox]) -> list[int]:
    engine = Engine()
    _hand_out(events, cast(Any, engine), mailboxes)
    return engine.cancelled


def test_events_go_to_their_mailboxes_in_order() -> None:
    one, two = Mailbox(), Mailbox()
    mailboxes = {1: one, 2: two, 3: two}
    events = [event(2), event(1), event(3), event(2, "stop")]
    assert hand_out(events, mailboxes) == []
    assert [one.get()] == events[1:2]
    assert [two.get() for _ in range(3)] == [events[0], events[2], events[3]]
    assert set(mailboxes) == {1, 3}


def test_a_request_that_nobody_knows_is_cancelled() -> None:
    assert hand_out([event(7), event(8, "stop")], {}) == [7]


def test_it_takes_little_time() -> None:
    """50 us a token would be 5 % of one interpreter at a thousand tokens a second."""
    mailboxes = {i: Mailbox() for i in range(8)}
    events = [event(i % 8) for i in range(8000)]
    start = time.thread_time()
    hand_out(events, mailboxes)
    assert (time.thread_time() - start) / len(events) < 10e-6
