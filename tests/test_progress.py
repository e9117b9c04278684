"""Claims about following a build, made with lines as buildx 0.29 writes them."""

import re

import pytest
from tests.builders import make_log, make_status, make_vertex

from sparkbake.progress import Progress

CONTEXT = "[internal] load build context"
COPY = "[image 2/3] COPY --link --from=layout /layers/torch/ /"
RUN = "[layout 2/3] RUN --mount=type=secret,id=ca --mount=type=bind,source=.,target=/x python3 /x/layout.py"
RUN_SHOWN = "[layout 2/3] RUN python3 /x/layout.py"
OTHER = "[system 1/2] RUN /x/os-packages.sh curl"
FAILED = 'process "/bin/bash -c python3 /x/layout.py" did not complete successfully: exit code: 1'
CANCELED = (
    'process "/bin/bash -c /x/os-packages.sh curl" did not complete successfully: exit code: 137: context canceled'
)


class Watched:
    """A progress with what it showed and logged."""

    def __init__(self, *lines: str, verbose: bool = False) -> None:
        self.shown: list[str] = []
        self.logged: list[str] = []
        self.progress = Progress(self.shown.append, self.logged.append, verbose=verbose)
        for line in lines:
            self.progress.feed(line)


def test_a_build_without_a_failure_has_none() -> None:
    watched = Watched(make_vertex(RUN), make_vertex(RUN, "completed"), make_vertex(COPY, "cached"))
    assert watched.progress.failure is None


def test_a_failure_names_the_step_its_error_and_its_last_lines() -> None:
    lines = [make_log(RUN, f"line {number}\n") for number in range(30)]
    failure = Watched(make_vertex(RUN), *lines, make_vertex(RUN, "completed", error=FAILED)).progress.failure
    assert failure is not None
    assert (failure.step, failure.error) == (RUN_SHOWN, FAILED)
    assert failure.lines == tuple(f"line {number}" for number in range(10, 30))


def test_a_canceled_step_is_not_the_failure_though_it_ends_first() -> None:
    failure = Watched(
        make_vertex(OTHER),
        make_vertex(RUN),
        make_log(OTHER, "fetching\n"),
        make_log(RUN, "Traceback\n"),
        make_vertex(OTHER, "completed", error=CANCELED),
        make_vertex(RUN, "completed", error=FAILED),
    ).progress.failure
    assert failure is not None
    assert (failure.step, failure.lines) == (RUN_SHOWN, ("Traceback",))


def test_what_is_canceled_alone_is_no_failure() -> None:
    assert Watched(make_vertex(RUN), make_vertex(RUN, "completed", error=CANCELED)).progress.failure is None


def test_executed_counts_instructions_that_ran() -> None:
    watched = Watched(
        make_vertex(CONTEXT),
        make_vertex(CONTEXT, "completed"),
        make_vertex(RUN, "known"),
        make_vertex(RUN),
        make_vertex(RUN, "completed"),
        make_vertex(RUN, "completed"),
        make_vertex(COPY, "cached"),
        make_vertex("exporting to image", "completed"),
        make_vertex("[base 1/2] FROM registry.example/ubuntu@sha256:0123", "completed"),
        make_vertex("[spark-vllm-0_20_2-t4 system 1/2] RUN true", "completed"),
        make_vertex("[linux/arm64 image 3/3] WORKDIR /workspace", "completed"),
        make_vertex(OTHER),
    )
    assert watched.progress.executed == (
        RUN,
        "[spark-vllm-0_20_2-t4 system 1/2] RUN true",
        "[linux/arm64 image 3/3] WORKDIR /workspace",
    )


def test_a_rebuild_from_the_cache_executes_nothing() -> None:
    assert Watched(make_vertex(RUN, "cached"), make_vertex(COPY, "cached")).progress.executed == ()


def test_each_step_is_shown_when_it_starts_and_when_it_ends() -> None:
    watched = Watched(
        make_vertex(RUN, "known"),
        make_vertex(RUN),
        make_status(RUN),
        make_vertex(RUN),
        make_vertex(RUN, "completed"),
        make_vertex(COPY, "cached"),
        make_vertex(OTHER, "completed", error=FAILED),
    )
    assert [re.sub(r"\d+\.\d s$", "N s", line) for line in watched.shown] == [
        "[layout 2/3] RUN python3 /x/layout.py",
        "[layout 2/3] RUN python3 /x/layout.py: done, N s",
        COPY,
        f"{COPY}: cached, N s",
        OTHER,
        f"{OTHER}: failed, N s",
    ]
    assert watched.logged == watched.shown


def test_a_long_instruction_is_shown_on_one_short_line() -> None:
    (line,) = Watched(make_vertex("[system 2/2] RUN apt-get install\n" + " package" * 100)).shown
    assert len(line) == 150
    assert line.startswith("[system 2/2] RUN apt-get install package package")
    assert line.endswith("...")


def test_steps_of_buildkit_itself_are_logged_and_not_shown() -> None:
    watched = Watched(make_vertex(CONTEXT), make_vertex(CONTEXT, "completed"))
    assert watched.shown == []
    assert len(watched.logged) == 2


@pytest.mark.parametrize("verbose", [True, False])
def test_what_a_step_prints_is_logged_and_shown_when_asked_for(verbose: bool) -> None:  # noqa: FBT001
    watched = Watched(make_vertex(RUN), make_log(RUN, "one\ntwo\n"), verbose=verbose)
    assert watched.logged[1:] == ["    one", "    two"]
    assert watched.shown[1:] == (["    one", "    two"] if verbose else [])


def test_bytes_that_are_no_text_do_not_end_the_build() -> None:
    assert Watched(make_vertex(RUN), make_log(RUN, b"\xff\xfe!\n")).logged[1:] == ["    \ufffd\ufffd!"]


def test_a_line_of_a_step_that_was_not_announced_is_kept() -> None:
    failure = Watched(make_log(RUN, "early\n"), make_vertex(RUN, "completed", error=FAILED)).progress.failure
    assert failure is not None
    assert (failure.step, failure.lines) == (RUN_SHOWN, ("early",))


@pytest.mark.parametrize("line", ["ERROR: failed to solve: no such host", "", "12", '"text"', "[1]", "{broken"])
def test_plain_text_between_the_events_is_logged_and_remembered(line: str) -> None:
    watched = Watched(make_vertex(CONTEXT), line, make_vertex(CONTEXT, "completed"))
    assert watched.progress.remarks == (line,)
    assert line in watched.logged
    assert watched.shown == []


def test_the_last_twenty_remarks_are_remembered() -> None:
    assert Watched(*(f"warning {number}" for number in range(50))).progress.remarks == tuple(
        f"warning {number}" for number in range(30, 50)
    )


def test_events_without_content_mean_nothing() -> None:
    watched = Watched("{}", '{"vertexes": null, "logs": null}', '{"warnings": [{"short": "x"}]}')
    assert (watched.shown, watched.logged, watched.progress.executed) == ([], [], ())
