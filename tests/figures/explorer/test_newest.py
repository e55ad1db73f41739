"""One question at a time is answered, and the newest one wins."""

import threading
from collections.abc import Callable
from queue import Queue

from figures.explorer.newest import Newest

WAIT = 20  # seconds, which only a broken test takes


def test_the_newest_of_many_questions_wins() -> None:
    begun: Queue[int] = Queue()
    answers: Queue[tuple[int, int | Exception]] = Queue()
    go_on = threading.Event()

    def square(question: int, stale: Callable[[], bool]) -> int:
        begun.put(question)
        assert go_on.wait(WAIT)
        return question**2

    newest = Newest[int, int](square, lambda question, found: answers.put((question, found)))
    newest.ask(1)
    assert begun.get(timeout=WAIT) == 1
    for question in (2, 3, 4):
        newest.ask(question)
    go_on.set()
    assert answers.get(timeout=WAIT) == (4, 16)  # nothing of 1, which was stale, or of 2 and 3
    assert begun.get(timeout=WAIT) == 4 and begun.empty() and answers.empty()
    newest.close()


def test_an_error_is_delivered_and_the_next_question_answered() -> None:
    answers: Queue[tuple[int, int | Exception]] = Queue()

    def inverse(question: int, stale: Callable[[], bool]) -> int:
        return 6 // question

    newest = Newest[int, int](inverse, lambda question, found: answers.put((question, found)))
    newest.ask(0)
    assert isinstance(answers.get(timeout=WAIT)[1], ZeroDivisionError)
    newest.ask(3)
    assert answers.get(timeout=WAIT) == (3, 2)
    newest.close()


def test_nothing_is_delivered_after_close() -> None:
    answers: Queue[object] = Queue()
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def answer(question: int, stale: Callable[[], bool]) -> int | None:
        begun.set()
        assert go_on.wait(WAIT)
        done.set()
        return None if stale() else question

    newest = Newest[int, int](answer, lambda question, found: answers.put(found))
    newest.ask(1)
    assert begun.wait(WAIT)
    newest.close()
    go_on.set()
    assert done.wait(WAIT)
    other: Queue[object] = Queue()
    following = Newest[int, int](lambda q, _: q, lambda question, found: other.put(found))
    following.ask(7)  # takes its turn after the closed one
    assert other.get(timeout=WAIT) == 7
    assert answers.empty()
    following.close()
