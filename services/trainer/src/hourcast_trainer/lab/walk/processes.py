"""Work shared out to processes: results in the order of the tasks, and each question answered once for all."""

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import groupby, zip_longest
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from hourcast.contracts import Bars
from hourcast_trainer.choice import Chooser, Question
from hourcast_trainer.models import Hyper
from hourcast_trainer.settings import TrainerSettings

__all__ = ["side_by_side"]

Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[[Mapping[str, Bars], TrainerSettings, Task, Chooser], Result]
_SHARED: dict[str, Any] = {}


def _end_with_parent() -> None:
    """Make a worker process end when the one that started it does, also when that was killed amid a fold."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _start_worker(bars: Mapping[str, Bars], settings: TrainerSettings) -> None:
    _end_with_parent()
    _SHARED["all"] = (bars, settings, Chooser(bars, settings))


def _loss_in_worker(question: Question, number: int) -> float | None:
    bars, settings, _chooser = _SHARED["all"]
    with threadpool_limits(1):
        return question.loss(bars, settings, number)


def _in_worker(work: Work[Task, Result], task: Task, answers: Mapping[Question, Hyper]) -> Result:
    bars, settings, chooser = _SHARED["all"]
    chooser.learn(answers)
    return work(bars, settings, task, chooser)


def side_by_side(
    work: Work[Task, Result],
    bars: Mapping[str, Bars],
    settings: TrainerSettings,
    tasks: Sequence[Task],
    asked: Callable[[Task], Sequence[Question]],
    jobs: int,
) -> Iterator[Result]:
    """What `work`, a function of a module, gives for each task, in the order of the tasks; `jobs` processes share them out.

    `asked` tells what a task wants the chooser to know: that is found out once and by all processes, not by each.
    """
    if jobs <= 1 or len(tasks) < 3:
        chooser = Chooser(bars, settings)
        for task in tasks:
            yield work(bars, settings, task, chooser)
        return
    # torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(bars, settings))
    losses: dict[Question, list[Future[float | None]]] = {}

    def ask(questions: Iterable[Question]) -> None:
        for question in questions:
            if question not in losses:
                numbers = range(len(question.candidates(settings)))
                losses[question] = [pool.submit(_loss_in_worker, question, number) for number in numbers]

    groups = [
        (questions, list(group)) for questions, group in groupby(tasks, lambda task: tuple(asked(task)))
    ]
    running: deque[Future[Result]] = deque()
    try:
        ask(groups[0][0])
        for (questions, group), after in zip_longest(groups, groups[1:]):
            # What the next group asks stands in line before this group's work, so that no process waits for an answer.
            ask(after[0] if after else ())
            answers = {q: q.answer(settings, [loss.result() for loss in losses[q]]) for q in questions}
            running.extend(pool.submit(_in_worker, work, task, answers) for task in group)
            while len(running) > len(group):
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
