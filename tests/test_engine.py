"""Claims about how the engine is asked, with an engine that answers as it was told to."""

from collections.abc import Sequence
from typing import Any

import docker.errors
import pytest

from sparkbake import engine
from sparkbake.errors import PreflightError

BUSY = docker.errors.APIError("content sha256:0: not found")


class Client:
    """An engine whose disk usage is each of `answers` in turn."""

    def __init__(self, answers: Sequence[dict[str, Any] | Exception]) -> None:
        self._answers = list(answers)

    def df(self) -> dict[str, Any]:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def ask(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any] | Exception) -> frozenset[str]:
    monkeypatch.setattr(engine, "_USAGE_WAITS_S", (0, 0, 0))
    client = Client(answers)
    monkeypatch.setattr(engine, "_client", lambda _timeout_s: client)
    return frozenset(one.record_id for one in engine.cache_records())


def test_the_records_of_the_build_cache_are_known_by_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, {"BuildCache": [{"ID": "a"}, {"ID": "b"}]}) == {"a", "b"}
    assert ask(monkeypatch, {"BuildCache": None}) == frozenset()


def test_an_engine_that_is_just_removing_something_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, BUSY, BUSY, BUSY, {"BuildCache": [{"ID": "a"}]}) == {"a"}


def test_an_engine_that_never_can_count_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PreflightError, match="the engine cannot count what it holds: content sha256:0: not found; end"):
        ask(monkeypatch, BUSY, BUSY, BUSY, BUSY)


def test_an_engine_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PreflightError, match="the engine does not answer: no socket"):
        ask(monkeypatch, OSError("no socket"))
