"""Claims about where the paths of an image lead."""

import pytest
from tests.elfbuilder import make_survey

from sparkbake.paths import follow, real_path


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("usr/lib/libc.so.6", "usr/lib/libc.so.6"),
        ("/lib/libc.so.6", "usr/lib/libc.so.6"),
        ("lib/./../lib//libc.so.6", "usr/lib/libc.so.6"),
        ("usr/local/cuda/lib64/../lib/libc.so", "usr/lib/libc.so.6"),
        ("hard.so", "usr/lib/libc.so.6"),
        ("../../lib/libc.so.6", "usr/lib/libc.so.6"),
        ("usr/lib", "usr/lib"),
        ("usr/lib/libm.so.6", None),
        ("dangling", None),
        ("round", None),
    ],
)
def test_links_are_followed_as_the_kernel_does(path: str, real: str | None) -> None:
    survey = make_survey(
        {"usr/lib/libc.so.6": b"it"},
        links={
            "lib": "usr/lib",
            "usr/lib/libc.so": "libc.so.6",
            "usr/local/cuda": "/opt/cuda",
            "opt/cuda/lib64": "../../lib",
            "opt/cuda/lib": "/lib",
            "usr/lib/lib": ".",
            "dangling": "nowhere",
            "round": "around",
            "around": "round",
        },
        hard_links={"hard.so": "usr/lib/libc.so.6"},
    )
    assert real_path(survey.seen, path) == real


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("lib/none", "usr/lib/none"),
        ("hard.so", "hard.so"),
        ("dangling", "nowhere/at/all"),
        ("up", "etc"),
        ("", ""),
        ("round", None),
        ("round/x", None),
    ],
)
def test_a_path_leads_somewhere_be_there_something_or_not(path: str, end: str | None) -> None:
    """But not in a circle; and a hard link leads nowhere else."""
    links = {"lib": "usr/lib", "dangling": "/nowhere/at/all", "up": "../../etc", "round": "round"}
    survey = make_survey({"usr/lib/libc.so.6": b"it"}, links=links, hard_links={"hard.so": "usr/lib/libc.so.6"})
    assert follow(survey.seen, path) == end


@pytest.mark.parametrize(("count", "is_followed"), [(40, True), (41, False)])
def test_as_many_links_are_followed_as_linux_does(count: int, *, is_followed: bool) -> None:
    survey = make_survey({"a0": b"it"}, links={f"a{number + 1}": f"a{number}" for number in range(count)})
    assert real_path(survey.seen, f"a{count}") == ("a0" if is_followed else None)
