"""The values that `serve` takes are those of the releases of vLLM themselves, as their sources have them."""

import ast
from pathlib import Path

import pytest
from tests.builders import ROOT, real_matrix
from tests.engine.vllmsources import unpack

from spark.serve import KV_CACHE_DTYPES
from sparkbake.matrix import rows
from sparkbake.patches import Release
from sparkbake.series import load_series

pytestmark = pytest.mark.network

FILE = "vllm/config/cache.py"


def test_the_types_of_the_kv_cache_are_those_of_all_releases_together(tmp_path: Path) -> None:
    found: set[str] = set()
    known = {one.version: one for one in load_series(ROOT / "patches" / "vllm").releases}
    # The index has no release candidates; the release that came of one is there.
    named = {one.tag.rpartition("-t")[0] for one in rows(real_matrix()) if "rc" not in one.tag}
    for version in sorted(named | known.keys()):
        release = known.get(version) or Release(version=version, source="sdist", note=None)
        unpack(release, lambda name: name == FILE, tmp_path / release.version)
        tree = ast.parse((tmp_path / release.version / FILE).read_text(encoding="utf-8"))
        (node,) = (
            one for one in tree.body if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "CacheDType"
        )
        types = {one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant)}
        assert "auto" in types, release.version
        found |= {str(one) for one in types}
    assert found == set(KV_CACHE_DTYPES)
