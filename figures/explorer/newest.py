"""Answers one question at a time, the newest of those that were asked."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Found = TypeVar("Found")

_TURN = threading.Lock()  # of all pages: a second solve at once would slow both


class Newest(Generic[Asked, Found]):
    """A thread that answers the newest question.

    Args:
        compute: answers a question; called by one thread of the process at a time. It may call
            `stale()` between two parts, and return None where that is true.
        deliver: takes a question with its answer or its error, on the thread, unless a newer
            question was asked.
    """

    def __init__(
        self,
        compute: Callable[[Asked, Callable[[], bool]], Found | None],
        deliver: Callable[[Asked, Found | Exception], None],
    ) -> None:
        self._compute, self._deliver = compute, deliver
        self._condition = threading.Condition()
        self._asked: list[Asked] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ask(self, question: Asked) -> None:
        """Ask, in the place of every question that has no answer yet."""
        with self._condition:
            self._asked = [question]
            self._condition.notify()

    def close(self) -> None:
        """Deliver nothing more, and end the thread after the part that it computes."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _stale(self) -> bool:
        return self._closed or bool(self._asked)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(self._stale)
                if self._closed:
                    return
                question = self._asked.pop()
            with _TURN:
                if self._stale():
                    continue
                try:
                    found: Found | Exception | None = self._compute(question, self._stale)
                except Exception as error:  # the page says it, and lives on
                    found = error
            if found is not None and not self._stale():
                self._deliver(question, found)
