"""What the steps of compiled rows are told without being part of what BuildKit knows them by."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparkbake import preflight
from sparkbake.build import build_secrets, text_secrets
from sparkbake.mirrors import Mirrors


@contextmanager
def compile_secrets(mirrors: Mirrors, jobs: int | None) -> Iterator[dict[str, Path]]:
    """Secret id to a file for as long as the build lasts: where to find what is fetched, and how many jobs compile."""
    texts = {"gitconfig": git_config(mirrors)} if mirrors.git else {}
    texts |= {"cargo": cargo_config(mirrors.crates)} if mirrors.crates else {}
    texts |= {"apt": str(mirrors.apt)} if mirrors.apt else {}
    # As a secret it changes no step's cache key: another number of jobs compiles nothing anew.
    texts |= {"jobs": str(jobs)} if jobs else {}
    with (
        build_secrets(mirrors, preflight.ca_bundle(os.environ), mirrors.package_index) as usual,
        text_secrets(texts) as own,
    ):
        yield {**usual, **own}


def git_config(mirrors: Mirrors) -> str:
    """Settings of git that send it to mirrors; submodules, too."""
    return "".join(f'[url "{new}"]\n\tinsteadOf = {old}\n' for old, new in mirrors.git)


def cargo_config(index: str) -> str:
    """Settings of cargo by which a sparse index takes the place of crates.io.

    https://doc.rust-lang.org/cargo/reference/source-replacement.html
    """
    return f'[source.crates-io]\nreplace-with = "mirror"\n\n[source.mirror]\nregistry = "{index}"\n'
