"""`build` of compiled rows by the command line: a checkout of stand-ins, all that it takes from a mirrors.yaml."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.small import inspect
from tests.engine.standins import COMPILED, FIRST, FOUNDATION, SECOND, StandIns, ran, serving_stand_ins

pytestmark = [pytest.mark.engine, pytest.mark.network]

T4, LATER = f"{FIRST}-t4", f"{SECOND}-t4"


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    with serving_stand_ins(tmp_path_factory.mktemp("stand-ins")) as made:
        yield made


@pytest.fixture(scope="module")
def first(stand_ins: StandIns) -> str:
    """What the first build said."""
    done = stand_ins.build(T4)
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stderr


def digests(stand_ins: StandIns) -> list[str]:
    return [inspect(one)["Id"] for one in stand_ins.references[:2]]


def test_a_row_and_what_it_stands_on_are_built_from_mirrors_and_found_clean(stand_ins: StandIns, first: str) -> None:
    assert first.count(": clean") == len(stand_ins.references) - 1
    for reference in stand_ins.references[:3]:
        assert "NCCL_VERSION=2.29.2-1" in inspect(reference)["Config"]["Env"], "CUDA's image has it of another NCCL"
    labels = inspect(stand_ins.reference("vllm", T4))["Config"]["Labels"]
    assert labels["dev.scitrera.vllm_version"] == FIRST
    assert labels["dev.scitrera.foundation"] == FOUNDATION
    assert labels["dev.scitrera.patches"] == "0001-marlin-lists.patch"


def test_what_compiles_has_no_network_even_where_mirrors_are_on_loopback(stand_ins: StandIns, first: str) -> None:
    body = json.loads((stand_ins.root / "build" / "docker-bake.json").read_text(encoding="utf-8"))
    assert {one["network"] for one in body["target"].values()} == {"host"}
    for folder in (stand_ins.root / "build").glob("*/Dockerfile"):
        text = folder.read_text(encoding="utf-8").replace("\\\n", "")
        for line in (one for one in text.splitlines() if any(f"/dev/sparkbake/{name} " in one for name in COMPILED)):
            assert line.startswith("RUN --network=none "), line


def test_a_foundation_that_the_engine_alone_has_is_taken_and_nothing_is_compiled(
    stand_ins: StandIns, first: str
) -> None:
    before = digests(stand_ins)
    done = stand_ins.build(T4, "--no-verify")
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stderr.count(": is there already: docker-image://") == len(before)
    assert ran(done.stderr) == set()
    assert digests(stand_ins) == before


def test_what_was_compiled_is_had_as_wheels_without_compiling_it_again(
    stand_ins: StandIns, first: str, tmp_path: Path
) -> None:
    before = inspect(stand_ins.reference("vllm", T4))["Id"]
    done = stand_ins.build(T4, "--no-verify", "--wheels", str(tmp_path / "wheels"))
    assert done.returncode == 0, done.stderr[-6000:]
    assert ran(done.stderr) == set()
    found = {one.name.partition("-")[0] for one in (tmp_path / "wheels" / T4).iterdir()}
    assert found == {"torch", "torchvision", "torchaudio", "triton", "vllm"}
    assert inspect(stand_ins.reference("vllm", T4))["Id"] == before


def test_a_row_that_differs_in_vllm_alone_stands_on_the_same_foundation(stand_ins: StandIns, first: str) -> None:
    before = digests(stand_ins)
    done = stand_ins.build(LATER, "--no-verify")
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stderr.count(": is there already: docker-image://") == len(before)
    assert ran(done.stderr) == {"build-vllm.sh"}
    assert digests(stand_ins) == before
    layers = [inspect(stand_ins.reference("vllm", tag))["RootFS"]["Layers"] for tag in (T4, LATER)]
    shared = len(inspect(stand_ins.references[1])["RootFS"]["Layers"])
    assert layers[0][:shared] == layers[1][:shared]


def test_a_foundation_whose_recipe_changed_is_built_anew(stand_ins: StandIns, first: str) -> None:
    before = digests(stand_ins)
    recipe = stand_ins.root / "recipes" / "scripts" / "install-torch.sh"
    recipe.write_text(f"{recipe.read_text(encoding='utf-8')}touch /opt/other\n", encoding="utf-8")
    done = stand_ins.build(T4, "--no-verify")
    assert done.returncode == 0, done.stderr[-6000:]
    assert "is there already" not in done.stderr
    assert not set(digests(stand_ins)) & set(before)
