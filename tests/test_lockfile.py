"""Claims about locks: what makes one stale, what is told as damage, and that a file says what the value says."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import LOCKS, ROOT, make_image_lock, make_lock, make_matrix, make_row, real_matrix

from sparkbake import lockfile
from sparkbake.errors import LockError
from sparkbake.frozen import freeze
from sparkbake.matrix import rows
from sparkbake.model import Environment, Lock, Matrix, Row, Strategy, Wheel
from sparkbake.sourcelock import digest_of, load_foundation_lock, source_base
from sparkbake.versions import same_version

REMEDY = "run `nox -s lock -- 0.20.2-t4`"


def write(folder: Path, text: str) -> Path:
    path = lockfile.lock_path(folder, "0.20.2-t4")
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str) -> Lock:
    write(folder, text)
    matrix = make_matrix()
    return lockfile.load_lock(folder, matrix, make_row(matrix=matrix))


def sealed(change: Callable[[dict[str, Any]], object]) -> str:
    """A lock file with a change and the digest that belongs to it."""
    body = json.loads(lockfile.lock_to_json(make_lock()))
    del body["digest"]
    change(body)
    return json.dumps({**body, "digest": lockfile.sha256_of(lockfile.canonical(body))})


# ---- what makes a lock stale


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('cuda: "13.0.2"', 'cuda: "13.0.1"'),
        ('version: "4.57.6"', 'version: "4.57.5"'),
        ('flashinfer: "0.6.8.post1"', 'flashinfer: "0.6.8.post01"'),
        ('as_of: "2026-05-17"', 'as_of: "2026-05-18"'),
        ('as_of: "2026-08-01"', 'as_of: "2026-08-02"'),
        ("requirement: ray", "requirement: ray>=2"),
        ('uv: "0.13.8"', 'uv: "0.13.9"'),
        ('python: "3.12"', 'python: "3.14"'),
        ("manylinux: manylinux_2_39", "manylinux: manylinux_2_38"),
        ("extras: [nvcc]", "extras: [nvcc, cccl]"),
        ("tag: v0.20.2", "tag: v0.20.2-1"),
        ('transformers: ">=4.56.0,<5"', 'transformers: ">=4.57.0,<5"'),
        ("platform: linux/arm64", "platform: linux/amd64"),
    ],
)
def test_a_lock_of_another_matrix_entry_is_stale(tmp_path: Path, old: str, new: str) -> None:
    write(tmp_path, lockfile.lock_to_json(make_lock()))
    changed = make_matrix(old, new)
    with pytest.raises(LockError) as caught:
        lockfile.load_lock(tmp_path, changed, make_row(matrix=changed))
    ours, theirs = (lockfile.entry_digest(one, make_row(matrix=one))[:19] for one in (make_matrix(), changed))
    assert str(caught.value) == (
        f"{tmp_path}/0.20.2-t4.json: stale: made from the matrix entry {ours}, but matrix.yaml now says {theirs}; "
        f"{REMEDY}"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("reason: two Sparks need it", "reason: everybody needs it"),
        ("torch: the foundation has a fix", "torch: it has a fix"),
        ("reason: no wheel before", "reason: none before"),
        ("title: vLLM", "title: vLLM, but better"),
        ("vendor: Example", "vendor: Other"),
        ("packages: [torch, nvidia-*]", "packages: [nvidia-*, torch, torchvision]"),
        ("- name: rest", "- name: others"),
        ("path: build_backend.py", "path: other.py"),
        ("os_packages: [curl, python3]", "os_packages: [curl, git, python3]"),
        ("image: registry.example/library/ubuntu:24.04", "image: registry.example/library/ubuntu:24.10"),
        ("suites: [trixie]", "suites: [trixie, trixie-updates]"),
        ("published: false", "published: true"),
        ('version: "5.19.0"', 'version: "5.18.0"'),
    ],
)
def test_what_does_not_decide_what_is_installed_leaves_a_lock_valid(tmp_path: Path, old: str, new: str) -> None:
    write(tmp_path, lockfile.lock_to_json(make_lock()))
    changed = make_matrix(old, new)
    assert lockfile.load_lock(tmp_path, changed, make_row(matrix=changed)) == make_lock()


# ---- what is told as damage


def test_a_missing_lock_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(LockError) as caught:
        lockfile.load_lock(tmp_path, make_matrix(), make_row())
    assert str(caught.value) == f"{tmp_path}/0.20.2-t4.json: there is no lock for 0.20.2-t4; {REMEDY}"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (None, "missing"),
        (sealed(lambda body: body.update(entry_digest="sha256:" + 64 * "0")), "stale"),
        (lockfile.lock_to_json(make_lock()).replace('"2.11.0"', '"2.11.1"', 1), "damaged"),
        ("{", "damaged"),
    ],
    ids=["missing", "stale", "edited", "no JSON"],
)
def test_the_state_of_a_lock_that_cannot_be_built_from_is_told_apart(
    tmp_path: Path, text: str | None, state: str
) -> None:
    if text is not None:
        write(tmp_path, text)
    with pytest.raises(LockError) as caught:
        lockfile.load_lock(tmp_path, make_matrix(), make_row())
    assert caught.value.state == state


def test_one_changed_byte_is_told_with_both_digests(tmp_path: Path) -> None:
    text = lockfile.lock_to_json(make_lock())
    with pytest.raises(
        LockError,
        match=r"0\.20\.2-t4\.json: damaged or edited by hand: its digest line says sha256:[0-9a-f]{12}, its content "
        rf"has sha256:[0-9a-f]{{12}}; restore it with git, or {REMEDY}",
    ):
        load(tmp_path, text.replace('"2.11.0"', '"2.11.1"', 1))


@given(st.data())
def test_any_changed_byte_is_told_or_changes_nothing(data: st.DataObject) -> None:
    lock = make_lock()
    clean = lockfile.lock_to_json(lock).encode()
    place = data.draw(st.integers(0, len(clean) - 1))
    damaged = clean[:place] + bytes([data.draw(st.integers(0, 127))]) + clean[place + 1 :]
    with contextlib.suppress(LockError):
        assert lockfile.parse_lock(damaged.decode(), "x.json", REMEDY) == lock


def test_a_byte_that_is_no_utf8_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, lockfile.lock_to_json(make_lock()))
    path.write_bytes(path.read_bytes().replace(b"torch", b"t\xffrch", 1))
    with pytest.raises(LockError, match=rf"0\.20\.2-t4\.json: cannot be read: .*; restore it with git, or {REMEDY}"):
        lockfile.load_lock(tmp_path, make_matrix(), make_row())


NO_LOCKS = [
    ("", "0.20.2-t4.json:1:1: not JSON: Expecting value"),
    ('{\n  "schema": }', "0.20.2-t4.json:2:13: not JSON: Expecting value"),
    ("[]", "0.20.2-t4.json: got list, expected a JSON object"),
    (sealed(lambda body: body.update(schema=2)), "0.20.2-t4.json: schema: got 2, expected 1"),
    (
        sealed(lambda body: body.update(tag="0.20.2-t5")),
        "0.20.2-t4.json: is the lock of '0.20.2-t5', expected 0.20.2-t4",
    ),
    (
        sealed(lambda body: body["environments"].pop("debian-13")),
        "0.20.2-t4.json: environments: has none for the base debian-13",
    ),
    (
        sealed(lambda body: body["environments"]["debian-13"]["wheels"][0].update(url="https://example.com")),
        "not a lock of this format: ValueError(\"a package has the keys ['file', 'name', 'sha256', 'size_bytes', "
        "'url', 'version'], expected ['file', 'name', 'sha256', 'size_bytes', 'version']\")",
    ),
    (
        sealed(lambda body: body["environments"]["debian-13"].update(extra=1)),
        "an environment has the keys ['extra', 'python', 'wheels'], expected ['python', 'wheels']",
    ),
    (
        sealed(lambda body: body.update(extra=1)),
        "it has the keys ['build_ids', 'entry_digest', 'environments', 'extra', ",
    ),
    (
        sealed(lambda body: body.pop("installer")),
        "it has the keys ['build_ids', 'entry_digest', 'environments', 'schema', ",
    ),
    (sealed(lambda body: body.update(environments=[])), "not a lock of this format: AttributeError("),
    (sealed(lambda body: body.update(source_date_epoch="now")), "not a lock of this format: ValueError("),
]


@pytest.mark.parametrize(("text", "message"), NO_LOCKS, ids=range(len(NO_LOCKS)))
def test_a_file_that_is_no_lock_is_told_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LockError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).endswith(f"; {REMEDY}")


def test_a_base_lock_with_another_key_is_told() -> None:
    body = json.loads(lockfile.image_lock_to_json(make_image_lock()))
    del body["digest"]
    body["note"] = "hello"
    text = json.dumps({**body, "digest": lockfile.sha256_of(lockfile.canonical(body))})
    with pytest.raises(LockError, match=r"base\.json: not a base lock of this format: .*'note'.*; do something"):
        lockfile.parse_image_lock(text, "base.json", "do something")


# ---- files


_HEX = st.text(alphabet="0123456789abcdef", min_size=64, max_size=64)
_WHEEL = st.builds(
    Wheel, name=st.text(), version=st.text(), file=st.text(), sha256=_HEX, size_bytes=st.integers(0, 10**10)
)
_WHEELS = st.lists(_WHEEL, max_size=4).map(tuple)
_ENVIRONMENTS = st.dictionaries(st.text(), st.tuples(st.text(), _WHEELS), max_size=3)
_LOCK = st.builds(
    Lock,
    tag=st.text(),
    entry_digest=st.text(),
    source_date_epoch=st.integers(),
    wheel_commit=st.text(),
    build_ids=st.dictionaries(st.text(), st.text(), max_size=3).map(lambda some: tuple(some.items())),
    installer=_WHEELS,
    environments=_ENVIRONMENTS.map(
        lambda some: tuple(Environment(base=base, python=one[0], wheels=one[1]) for base, one in some.items())
    ),
)


@given(_LOCK)
def test_a_lock_is_read_as_it_was_written(lock: Lock) -> None:
    text = lockfile.lock_to_json(lock)
    assert lockfile.parse_lock(text, "x.json", "") == lock
    assert lockfile.lock_to_json(lockfile.parse_lock(text, "x.json", "")) == text


def test_a_base_lock_is_read_as_it_was_written() -> None:
    lock = make_image_lock()
    assert lockfile.parse_image_lock(lockfile.image_lock_to_json(lock), "x.json", "") == lock


def test_a_change_of_one_package_is_a_change_of_its_line_and_of_the_digest() -> None:
    lock = make_lock()
    first, *others = lock.environments[0].wheels
    changed = replace(lock.environments[0], wheels=(replace(first, version="1.0.1"), *others))
    before = lockfile.lock_to_json(lock).splitlines()
    after = lockfile.lock_to_json(replace(lock, environments=(changed, lock.environments[1]))).splitlines()
    assert len(before) == len(after)
    differing = [new for old, new in zip(before, after, strict=True) if old != new]
    assert ['"version": "1.0.1"' in differing[0], '"digest"' in differing[-1], len(differing)] == [True, True, 2]


# ---- the real ones


def wheels_rows(matrix: Matrix) -> list[Row]:
    return [one for one in rows(matrix) if one.release.strategy is Strategy.WHEELS]


def is_frozen(row: Row) -> bool:
    path = lockfile.lock_path(LOCKS, row.tag)
    return path.exists() and not json.loads(path.read_text(encoding="utf-8")).get("open_pins")


def test_every_row_has_a_lock_that_belongs_to_it() -> None:
    matrix = real_matrix()
    for row in wheels_rows(matrix):
        lock = lockfile.load_lock(LOCKS, matrix, row)
        for environment in lock.environments:
            names = [one.name for one in environment.wheels]
            assert names == sorted(set(names)), f"{row.tag} on {environment.base}"


def test_every_lock_belongs_to_a_row() -> None:
    tags = {one.tag for one in rows(real_matrix())}
    assert {one.stem for one in LOCKS.glob("*.json")} <= tags


def test_the_versions_of_a_row_are_those_of_its_lock() -> None:
    matrix = real_matrix()
    distributions = {one.name: one.distribution for one in matrix.components}
    for row in wheels_rows(matrix):
        for environment in lockfile.load_lock(LOCKS, matrix, row).environments:
            locked = {one.name: one.version for one in environment.wheels}
            for component, version in row.versions:
                found = locked[distributions[component]]
                assert same_version(found, version), f"{row.tag} on {environment.base}: {component}"


def test_the_locks_of_published_rows_are_frozen() -> None:
    """Their images are in use: a changed lock would be another image under the same tag."""
    frozen = json.loads((ROOT / "tests/data/published-locks.json").read_text(encoding="utf-8"))
    # That of a compiled row is frozen once no pin is open of it.
    published = {one.tag for one in rows(real_matrix()) if one.release.published and is_frozen(one)}
    found = {tag: hashlib.sha256(lockfile.lock_path(LOCKS, tag).read_bytes()).hexdigest() for tag in sorted(published)}
    assert found == frozen, (
        "a row marked `published: true` has another lock than tests/data/published-locks.json says: restore the lock "
        "with git; or, when the row was published just now, add its line; a line without such a row is removed"
    )


def frozen_foundation(name: str) -> str | None:
    """Digest of all that a foundation's lock says and that no one fills later; None while a commit or index is open.

    The manifest of an image follows from its index, and the entry of the matrix says whether that is known.
    """
    lock = load_foundation_lock(
        LOCKS, real_matrix(), next(one for one in real_matrix().foundations if one.name == name)
    )
    if any(not one.commit for one in lock.pins) or any(not one.index for one in lock.images):
        return None
    devel, runtime = (replace(one, manifest=None) for one in lock.images)
    return digest_of(replace(lock, entry_digest="", images=(devel, runtime)))


def test_the_foundations_and_os_packages_of_published_rows_are_frozen() -> None:
    """A row's lock names neither, and its image is made of both."""
    frozen = json.loads((ROOT / "tests/data/published-foundations.json").read_text(encoding="utf-8"))
    matrix = real_matrix()
    names = {
        one.foundation.name for one in rows(matrix) if one.release.published and one.release.strategy is Strategy.SOURCE
    }
    digests = {name: frozen_foundation(name) for name in sorted(names)}
    found = {
        "apt_snapshot": freeze(source_base(matrix), matrix, LOCKS).apt_snapshot,
        "foundations": {name: digest for name, digest in digests.items() if digest},
    }
    assert found == frozen, (
        "compiled rows marked `published: true` stand on other foundations, or take OS packages of another day, than "
        "tests/data/published-foundations.json says: restore the lock with git; a foundation that was published just "
        "now, or whose last open commit is found, gets its line"
    )
