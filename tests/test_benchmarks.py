"""Claims about what the benchmarks read from what a build says; what they measure, no test can hold."""

import importlib.util
import sys
from types import ModuleType

import pytest
from tests.builders import ROOT, make_log, make_vertex

from sparkbake.progress import Progress


@pytest.fixture(scope="module")
def build_time() -> ModuleType:
    """A benchmark as a module; they stand in no package."""
    spec = importlib.util.spec_from_file_location("build_time", ROOT / "benchmarks" / "build_time.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_phases_of_a_build_are_read_from_what_it_shows(build_time: ModuleType) -> None:
    """With the lines that a build really shows: BuildKit's progress as it is made into lines, and the recipes' own."""
    shown: list[str] = []
    progress = Progress(lambda line: shown.append(f"sparkbake: {line}"), lambda _line: None, verbose=False)
    layout, export = "[layout 3/3] RUN python3 layout.py", "exporting to image"
    source = (ROOT / "recipes" / "scripts" / "layout.py").read_text(encoding="utf-8")
    assert 'say(f"dealing {' in source
    assert 'say("done")' in source
    progress.feed(make_vertex(layout))
    progress.feed(make_log(layout, "layout: 2 s: making the virtual environment\n"))
    progress.feed(make_log(layout, "layout: 61 s: dealing 202 packages into 57 layers\nlayout: 75 s: done\n"))
    progress.feed(make_vertex(layout, "completed"))
    progress.feed(make_vertex(export))
    progress.feed(make_vertex(export, "completed"))
    (line,) = [one for one in shown if one.startswith("sparkbake: exporting to image: done, ")]
    shown[shown.index(line)] = "sparkbake: exporting to image: done, 41.8 s"
    found = build_time.phases(shown, 150.0)
    assert (found.install_s, found.layout_s, found.export_s) == (61, 14, 41.8)
    assert str(found) == "150 s: fetch and install 61, layout 14, export 42, the rest 33"


def test_a_build_that_does_not_say_has_no_phases(build_time: ModuleType) -> None:
    assert str(build_time.phases(["sparkbake: 0 steps executed"], 4.0)) == "4 s: the rest 4"
