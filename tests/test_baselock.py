"""Claims about the lock of a bootstrapped base as a file."""

import json
from typing import Any

import pytest
from tests.builders import LOCKS
from tests.debian import EPOCH, make_lock, make_package

from sparkbake.baselock import base_lock_from_json, base_lock_to_json, content_hash
from sparkbake.errors import LockError

ADVICE = "run `nox -s lock -- --base debian-13` to write it anew"
DIGEST_FORM = "expected 'sha256:' and 64 hex digits"


class TestToJson:
    def test_a_lock_survives_the_way_through_json(self) -> None:
        lock = make_lock(
            index_digest=f"sha256:{'a' * 64}", manifests=(("arm64", f"sha256:{'b' * 64}"),), generator=(("apt", "3.0"),)
        )
        assert base_lock_from_json(base_lock_to_json(lock), "debian-13.json") == lock
        assert base_lock_from_json(base_lock_to_json(make_lock()), "x.json") == make_lock()

    def test_the_committed_lock_is_read_and_written_without_a_change(self) -> None:
        text = (LOCKS / "bases" / "debian-13.json").read_text(encoding="utf-8")
        assert base_lock_to_json(base_lock_from_json(text, "debian-13.json")) == text

    def test_each_package_has_a_line_of_its_own(self) -> None:
        before = base_lock_to_json(make_lock())
        packages = (make_package("apt"), make_package("curl", "1.1"), make_package("tzdata", architecture="all"))
        after = base_lock_to_json(make_lock(packages=(("arm64", packages),)))
        changed = [(one, two) for one, two in zip(before.splitlines(), after.splitlines(), strict=True) if one != two]
        assert len(changed) == 1
        assert '"version": "1.1"' in changed[0][1]
        assert after.endswith("}\n")
        assert list(json.loads(after)) == sorted(json.loads(after))


class TestFromJson:
    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            (("name",), 13, "name: got 13, expected a name such as 'debian-13'"),
            (("suites",), "trixie", 'suites: got "trixie", expected a list that is not empty'),
            (("include",), [], "include: got [], expected a list that is not empty"),
            (("include",), ["curl", "a b"], 'include[1]: got "a b", expected a package name'),
            (("source_date_epoch",), "1", 'source_date_epoch: got "1", expected a whole number above 0'),
            (("index_digest",), "sha256:1", f'index_digest: got "sha256:1", {DIGEST_FORM}'),
            (("manifests",), {"arm64": "1"}, f'manifests.arm64: got "1", {DIGEST_FORM}'),
            (("generator",), {"apt": 3}, "generator.apt: got 3, expected a version"),
            (("packages",), [], "packages: got [], expected an object"),
            (("packages", "arm64", 0), "apt", 'packages.arm64[0]: got "apt", expected an object'),
            (("packages", "arm64", 0, "name"), "Apt", 'packages.arm64[0].name: got "Apt", expected a package name'),
            (
                ("packages", "arm64", 1, "version"),
                "1 0",
                'packages.arm64[1].version: got "1 0", expected a Debian version',
            ),
            (
                ("packages", "arm64", 1, "architecture"),
                "riscv64",
                'packages.arm64[1].architecture: got "riscv64", expected all, amd64 or arm64',
            ),
            (("packages", "arm64", 1, "sha256"), "ab", 'packages.arm64[1].sha256: got "ab", expected 64 hex digits'),
            (
                ("packages", "arm64", 1, "size_bytes"),
                0,
                "packages.arm64[1].size_bytes: got 0, expected a whole number above 0",
            ),
            (
                ("packages", "arm64", 1, "md5"),
                "ab",
                "packages.arm64[1]: md5: unknown, expected architecture, name, sha256, size_bytes, version",
            ),
        ],
    )
    def test_a_wrong_value_is_told_with_its_place(
        self, path: tuple[str | int, ...], value: object, message: str
    ) -> None:
        content: Any = json.loads(base_lock_to_json(make_lock()))
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(LockError) as raised:
            base_lock_from_json(json.dumps(content), "locks/bases/debian-13.json")
        assert str(raised.value) == f"locks/bases/debian-13.json: not a lock of a base: {message}; {ADVICE}"

    def test_a_missing_key_is_told(self) -> None:
        content = json.loads(base_lock_to_json(make_lock()))
        del content["suites"]
        with pytest.raises(LockError, match="lock: suites: missing, expected this key; run `nox"):
            base_lock_from_json(json.dumps(content), "debian-13.json")

    @pytest.mark.parametrize(
        ("text", "message"), [("{", "line 1 column 2"), ("[]", r"lock: got \[\], expected an obj")]
    )
    def test_what_is_no_lock_at_all_is_told(self, text: str, message: str) -> None:
        with pytest.raises(LockError, match=f"debian-13.json: not a lock of a base: .*{message}.*; run `nox"):
            base_lock_from_json(text, "debian-13.json")


class TestContentHash:
    def test_it_follows_what_goes_into_the_image_alone(self) -> None:
        made = make_lock(index_digest=f"sha256:{'a' * 64}", manifests=(("arm64", f"sha256:{'b' * 64}"),), generator=())
        assert content_hash(made) == content_hash(make_lock())
        assert content_hash(make_lock(source_date_epoch=EPOCH + 1)) != content_hash(make_lock())
