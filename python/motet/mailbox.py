"""From the engine's events to their readers.

The dispatcher holds the GIL only to look a request up and to put an event into its mailbox. All
work on tokens is the reader's.
"""

from __future__ import annotations

import contextlib
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from motet import _core


class Mailbox:
    """Where the events of some requests wait for their one reader, a thread or an asyncio task.

    None among them says that no more will come.
    """

    __slots__ = ("queue", "waiter")

    def __init__(self) -> None:
        self.queue: SimpleQueue[_core.Event | None] = SimpleQueue()
        self.waiter: asyncio.Future[None] | None = None  # of a task that waits

    def get(self) -> _core.Event | None:
        """The next event. Waits without polling; an interrupt reaches the main thread at once."""
        return self.queue.get()

    async def pause(self) -> None:
        """Lets other tasks run if there are events: who reads them slower than they come never has
        to wait for one."""
        if not self.queue.empty():
            import asyncio

            await asyncio.sleep(0)

    async def aget(self) -> _core.Event | None:
        """As `get` in the running event loop, which may be another one each time."""
        import asyncio  # whoever gets here has imported it

        while self.queue.empty():
            self.waiter = waiter = asyncio.get_running_loop().create_future()
            # An event that came before the dispatcher could see the waiter wakes nobody.
            if not self.queue.empty():
                break
            await waiter
        self.waiter = None
        return self.queue.get_nowait()

    def end(self) -> None:
        """Wakes the reader with None, from any thread, also while the garbage collector runs."""
        self.queue.put(None)
        waiter = self.waiter
        if waiter is not None:
            with contextlib.suppress(RuntimeError):  # its loop was closed: nobody waits
                waiter.get_loop().call_soon_threadsafe(_wake, [waiter])


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


def dispatch(engine: _core.Engine, mailboxes: dict[int, Mailbox]) -> None:
    """Hands out events until the engine is stopped."""
    while events := engine.wait_events():
        _hand_out(events, engine, mailboxes)
        del events  # nothing stays alive through a long wait
    for mailbox in set(mailboxes.values()):
        mailbox.end()


def _hand_out(
    events: list[_core.Event], engine: _core.Engine, mailboxes: dict[int, Mailbox]
) -> None:
    """The only Python that runs for every token whoever reads it; keep it short."""
    waiting: dict[asyncio.AbstractEventLoop, dict[asyncio.Future[None], Mailbox]] = {}
    for event in events:
        request = event.request
        mailbox = mailboxes.get(request)
        if mailbox is None:  # released, perhaps by an interrupt before it was submitted
            if event.finish is None:
                engine.cancel(request)
            continue
        mailbox.queue.put(event)
        if event.finish is not None:
            mailboxes.pop(request, None)
        # Only its reader changes the waiter: who cleared it here might clear the next one.
        waiter = mailbox.waiter
        if waiter is not None and not waiter.done():
            waiting.setdefault(waiter.get_loop(), {})[waiter] = mailbox
    for loop, waiters in waiting.items():
        try:
            loop.call_soon_threadsafe(_wake, list(waiters))
        except RuntimeError:  # the loop was closed
            _abandon(engine, mailboxes, set(waiters.values()))


def _abandon(engine: _core.Engine, mailboxes: dict[int, Mailbox], abandoned: set[Mailbox]) -> None:
    """Gives up all requests whose reader is gone."""
    for request, mailbox in mailboxes.copy().items():  # a copy: others release
        if mailbox in abandoned:
            mailboxes.pop(request, None)
            engine.cancel(request)
