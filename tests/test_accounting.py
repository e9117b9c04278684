"""Claims about whose the files of an image are: a small whole image, and what is found when somebody has tampered."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accountbuilder import (
    DPKG,
    FILES,
    LIBC,
    MANIFEST,
    OTHER_INFO,
    SITE,
    TORCH_INFO,
    Files,
    image,
    make_record,
    make_survey,
    md5,
    our_files,
)

from sparkbake.accounting import Accounts, Share, account
from sparkbake.errors import ImageError
from sparkbake.findings import Finding
from sparkbake.model import Collision
from sparkbake.rules import FileRule

GENERATED = (
    FileRule(bases=(), paths=("etc/passwd",), reason="users"),
    FileRule(
        bases=(), paths=(f"{DPKG}/status", f"{DPKG}/diversions", f"{DPKG}/alternatives/*"), reason="dpkg's database"
    ),
)
REMOVED = (FileRule(bases=(), paths=("usr/share/man/*",), reason="nobody reads them"),)
COLLISIONS = (
    Collision(path="shared/*", keep="torch", reason="torch writes it last"),
    Collision(path="build_backend.py", keep=None, reason="two packages carry it"),
)


def accounts(files: Files, *, generated: tuple[FileRule, ...] = GENERATED) -> Accounts:
    return account(make_survey(files), collisions=COLLISIONS, generated=generated, removed=REMOVED)


def findings(files: Files) -> list[tuple[str, str]]:
    return [(one.id, one.subject) for one in accounts(files).findings]


def with_file(path: str, content: bytes | str) -> Files:
    return {**image(), path: content}


def without(path: str) -> Files:
    files = image()
    del files[path]
    return files


# ---- an image as it was built


def test_every_file_of_an_image_as_it_was_built_is_accounted_for() -> None:
    assert accounts(image()).findings == ()


def test_files_are_counted_by_the_kind_of_their_owner() -> None:
    files = image()
    found = {one.kind: one for one in accounts(files).shares}
    assert list(found) == ["os", "python", "ours", "generated", "unowned"]
    assert sum(one.files for one in found.values()) == sum(content is not None for content in files.values())
    sizes = [len(content) for content in files.values() if isinstance(content, bytes)]
    assert sum(one.size_bytes for one in found.values()) == sum(sizes)
    ours = [files[path] for path in (f"{TORCH_INFO}/TRIMMED.json", "opt/venv/pyvenv.cfg", FILES, MANIFEST)]
    size = sum(len(content) for content in ours if isinstance(content, bytes))
    assert found["ours"] == Share(kind="ours", files=5, size_bytes=size, checked=3)


def test_what_was_checked_is_counted() -> None:
    """Of the OS: bash, libc, a configuration file, and two links of update-alternatives."""
    found = {one.kind: one.checked for one in accounts(image()).shares}
    assert found == {"os": 5, "python": 5, "ours": 3, "generated": 0, "unowned": 0}


# ---- what somebody changed


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("usr/bin/bash", b"\x7fELF bAsh", ["file-changed"]),
        ("usr/bin/bash", "link:mawk.real", ["file-changed"]),
        ("usr/lib/libc.so.6", b"\x7fELF libC", ["file-changed"]),
        ("etc/bash.bashrc", b"PS1=#\n", ["file-changed"]),
        ("etc/alternatives/awk", "link:/usr/bin/bash", ["file-changed"]),
        ("usr/bin/awk", b"a program", ["file-changed"]),
        ("usr/bin/sh", "link:/opt/venv/bin/tool", ["link-changed"]),
        (f"{SITE}/torch/__init__.py", b"import sys\n", ["file-changed"]),
        (f"{SITE}/torch/__init__.py", "link:../six.py", ["file-changed", "link-dangling"]),
        (f"{SITE}/torch/lib/libtorch.so.1", b"\x7fELF tOrch", ["file-changed"]),
        (f"{SITE}/torch/lib/libtorch.so.1", f"hardlink:{SITE}/torch/__init__.py", ["file-changed"]),
        ("opt/venv/bin/tool", b"#!/bin/sh\n", ["file-changed"]),
        (f"{SITE}/shared/x.py", b"a third one", ["file-changed"]),
        (f"{SITE}/shared/x.py", b"other's", ["file-changed"]),
        ("opt/venv/pyvenv.cfg", b"home = /tmp\n", ["file-changed"]),
        ("opt/venv/bin/python", "link:/usr/bin/sh", ["file-changed"]),
        ("usr/bin/extra", b"", ["file-unowned"]),
        ("opt/venv/bin/extra", "link:tool", ["file-unowned"]),
        (f"{DPKG}/info/extra.postinst", b"", ["file-unowned"]),
        (f"{SITE}/torch/sitecustomize.py", b"", ["file-unowned"]),
        (f"{SITE}/torch/copy.py", f"hardlink:{SITE}/torch/__init__.py", ["file-unowned"]),
        (f"{SITE}/torch/lib/big.a", b"static", ["trimmed-present"]),
        (f"{SITE}/build_backend.py", b"its own", ["file-changed"]),
    ],
)
def test_what_is_not_as_its_owner_has_it_is_found(path: str, content: bytes | str, expected: list[str]) -> None:
    found = findings(with_file(path, content))
    assert [kind for kind, _subject in found] == expected
    assert found[0][1] == path


@pytest.mark.parametrize(
    "path",
    [
        "usr/bin/bash",
        "usr/lib/libc.so.6",
        "etc/bash.bashrc",
        "etc/mtab",
        "etc/alternatives/awk",
        f"{SITE}/torch/__init__.py",
        f"{SITE}/shared/x.py",
        "opt/venv/bin/tool",
        "opt/venv/pyvenv.cfg",
        FILES,
        MANIFEST,
    ],
)
def test_what_was_removed_is_found(path: str) -> None:
    assert ("file-missing", path) in findings(without(path))


def test_a_changed_library_is_found_at_both_its_names() -> None:
    path = f"{SITE}/torch/lib/libtorch.so"
    assert findings(with_file(path, b"\x7fELF tOrch")) == [("file-changed", path), ("file-changed", f"{path}.1")]


def test_a_hard_link_without_its_file_is_an_error() -> None:
    path = f"{SITE}/torch/lib/libtorch.so"
    found = accounts(without(path)).findings
    assert [(one.id, one.subject, one.severity) for one in found] == [
        ("file-changed", f"{path}.1", "error"),
        ("file-missing", path, "error"),
        ("link-dangling", f"{path}.1", "error"),
    ]


def test_a_finding_shows_both_contents_as_its_owner_notes_them() -> None:
    assert accounts(with_file("usr/lib/libc.so.6", b"bad")).findings[0] == Finding(
        id="file-changed",
        severity="error",
        subject="usr/lib/libc.so.6",
        found=f"md5:{md5(b'bad')}",
        expected=f"md5:{md5(LIBC)} of libc6",
        remedy="build the image anew; if it was changed on purpose, change it in a recipe, under a path that no "
        "package has",
    )


def test_an_unowned_file_is_told_with_its_layer() -> None:
    found = accounts(with_file("usr/bin/extra", b"123")).findings[0]
    assert found.found == "file of 3 bytes in layer rest"


def test_very_many_findings_are_all_told() -> None:
    """A waiver may set some of them aside; `findings.judge` sums up what is left."""
    extra = [f"opt/extra/{number:03}" for number in range(100)]
    found = findings({**image(), **dict.fromkeys(extra, b"")})
    assert sorted(found) == [("file-unowned", path) for path in extra]


@given(st.sampled_from(sorted(path for path, content in image().items() if content)), st.integers(0, 1 << 20))
def test_a_change_of_any_file_with_a_digest_is_found(path: str, at: int) -> None:
    """But of those that have none: records, which say what others have to be, and what is generated."""
    files = image()
    content = files[path]
    if not isinstance(content, bytes) or path.startswith((DPKG, "usr/share/sparkbake")):
        return
    if path.endswith(("/RECORD", ".pyc", "etc/passwd", "usr/lib/perl", "mawk.real", "TRIMMED.json")):
        return
    at %= len(content)
    assert ("file-changed", path) in findings({**files, path: content[:at] + b"\xff" + content[at + 1 :]})


# ---- records that lie or are damaged


def with_record(record: bytes) -> Files:
    return {**image(), f"{OTHER_INFO}/RECORD": record}


def test_a_record_that_lies_about_a_content_is_found() -> None:
    rows = {"torch/__init__.py": b"evil", "build_backend.py": b"its own", "the_other-1.0.dist-info/RECORD": None}
    assert findings(with_record(make_record(rows))) == [("file-changed", f"{SITE}/torch/__init__.py")]


def test_a_record_that_does_not_list_itself_leaves_itself_without_owner() -> None:
    record = make_record({"shared/x.py": b"other's", "build_backend.py": b"its own"})
    assert findings(with_record(record)) == [("file-unowned", f"{OTHER_INFO}/RECORD")]


def test_a_file_of_one_package_alone_is_not_left_out_by_a_rule_on_collisions() -> None:
    record = make_record({"shared/x.py": b"other's", "the_other-1.0.dist-info/RECORD": None})
    assert findings(with_record(record)) == [("file-missing", f"{SITE}/build_backend.py")]


@pytest.mark.parametrize(
    ("digest", "found"),
    [
        ("", "no digest"),
        ("sha512=abc", "sha512=abc"),
        ("sha256=abc", "sha256=abc"),
        ("sha256=!", "sha256=!"),
        ("sha256=\u00e4", "sha256=\u00e4"),
        ("abc", "abc"),
    ],
)
def test_a_row_without_a_sha256_is_found(digest: str, found: str) -> None:
    record = make_record({"build_backend.py": b"its own", "the_other-1.0.dist-info/RECORD": None})
    some = accounts(with_record(record + f"torch/__init__.py,{digest},1\n".encode())).findings
    assert [(one.id, one.subject, one.found) for one in some] == [
        ("record-unhashed", f"{SITE}/torch/__init__.py", found)
    ]


def test_signatures_of_a_record_need_no_digest() -> None:
    rows = {f"the_other-1.0.dist-info/RECORD{end}": None for end in ("", ".jws", ".p7s")}
    files = with_record(make_record({"build_backend.py": b"its own", **rows}))
    files |= {f"{SITE}/{path}": b"signature" for path in rows if not path.endswith("RECORD")}
    assert findings(files) == []


def test_another_packages_record_needs_a_digest() -> None:
    rows = {"build_backend.py": b"its own", "the_other-1.0.dist-info/RECORD": None, "torch-2.0.dist-info/RECORD": None}
    assert findings(with_record(make_record(rows))) == [("record-unhashed", f"{TORCH_INFO}/RECORD")]


def test_a_row_may_be_empty_quoted_or_short() -> None:
    rows = {"build_backend.py": b"its own", "the_other-1.0.dist-info/RECORD": None, '"a,b.pyc"': None}
    files = with_record(make_record(rows) + b"\nshort.pyc\n")
    assert findings(files | {f"{SITE}/a,b.pyc": b"", f"{SITE}/short.pyc": b""}) == []


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        (f"{OTHER_INFO}/RECORD", b'"x', f"^{OTHER_INFO}/RECORD: is no CSV: "),
        (f"{OTHER_INFO}/RECORD", b"\xff,,\n", f"^{OTHER_INFO}/RECORD: is not UTF-8: "),
        (f"{TORCH_INFO}/TRIMMED.json", b"[]", f"^{TORCH_INFO}/TRIMMED.json: got a JSON list, expected an object"),
        (FILES, b"{", f"^{FILES}: is no JSON: "),
        (FILES, b'{"x": 1}', f"^{FILES}: x: got 1, expected 'sha256:...' or 'link:...'; build it anew"),
        (FILES, b'{"x": "md5:1"}', f"^{FILES}: x: got 'md5:1', expected"),
        (f"{DPKG}/status", b"nonsense", "paragraph 1: got 'nonsense'"),
    ],
)
def test_a_damaged_record_is_refused(path: str, content: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        accounts(with_file(path, content))


def test_a_trimmed_list_nobody_vouches_for_is_found() -> None:
    """It is of the recipe, so files.json has its digest."""
    path = f"{TORCH_INFO}/TRIMMED.json"
    files = with_file(path, b'{"torch/lib/big.a": 6, "torch/__init__.py": 10}\n')
    del files[f"{SITE}/torch/__init__.py"]
    assert findings(files) == [("file-changed", path)]


@pytest.mark.parametrize("path", ["usr/bin/backdoor", "etc/cron.d/backdoor", "usr/local/cuda-backdoor"])
def test_the_recipe_vouches_for_nothing_where_it_puts_nothing(path: str) -> None:
    content = b"#!/bin/sh\n"
    listed = {**json.loads(our_files()[FILES] or b""), path: f"sha256:{hashlib.sha256(content).hexdigest()}"}
    assert findings({**image(), path: content, FILES: json.dumps(listed).encode()}) == [("file-unowned", path)]


def test_what_the_recipe_lists_where_it_puts_nothing_need_not_be_there() -> None:
    listed = {**json.loads(our_files()[FILES] or b""), "usr/bin/backdoor": "link:bash"}
    assert findings({**image(), FILES: json.dumps(listed).encode()}) == []


@pytest.mark.parametrize("path", ["opt/venv/bin/more", "usr/local/cuda"])
def test_the_recipe_vouches_for_links_in_its_own_places(path: str) -> None:
    listed = {**json.loads(our_files()[FILES] or b""), path: "link:/usr/bin/bash"}
    files = {**image(), FILES: json.dumps(listed).encode()}
    assert findings({**files, path: "link:/usr/bin/bash"}) == []
    assert findings({**files, path: "link:/usr/bin/sh"}) == [("file-changed", path)]
    assert findings(files) == [("file-missing", path)]


def test_a_package_without_a_list_of_its_files_is_found() -> None:
    assert ("package-unlisted", "mawk") in findings(without(f"{DPKG}/info/mawk.list"))


# ---- who comes first


def test_a_file_of_two_kinds_of_owners_is_of_the_os_package() -> None:
    """What a RECORD says of it does not count then."""
    record = make_record({"../../../../../usr/bin/bash": b"else", "the_other-1.0.dist-info/RECORD": None})
    files = with_record(record + make_record({"build_backend.py": b"its own"}))
    assert findings(files) == []
    assert {one.kind: one.files for one in accounts(files).shares} == {
        one.kind: one.files for one in accounts(image()).shares
    }


def test_a_record_of_an_os_package_is_one_of_its_files() -> None:
    """Debian's own Python packages: dpkg checks them."""
    record = "usr/lib/python3/dist-packages/six-1.0.dist-info/RECORD"
    files = with_file(record, make_record({"six.py": b"not there"}))
    files[f"{DPKG}/info/mawk.list"] = f"/usr/bin/mawk\n/{record}\n".encode()
    assert findings(files) == []


# ---- rules


def test_a_rule_that_accounts_for_nothing_is_a_warning() -> None:
    """Also one for a file that has an owner: usr/bin/bash."""
    rules = (*GENERATED, FileRule(bases=(), paths=("usr/bin/bash", "etc/none"), reason="none"))
    found = accounts(image(), generated=rules).findings
    assert {(one.id, one.severity, one.subject) for one in found} == {
        ("rule-unused", "warning", "generated: etc/none"),
        ("rule-unused", "warning", "generated: usr/bin/bash"),
    }


def test_each_pattern_of_a_rule_has_to_be_of_use() -> None:
    rules = (FileRule(bases=(), paths=("etc/passwd", "etc/shadow"), reason="users"), GENERATED[1])
    found = accounts(image(), generated=rules).findings
    assert [(one.id, one.subject) for one in found] == [("rule-unused", "generated: etc/shadow")]


def test_a_rule_on_what_is_removed_that_is_of_no_use_is_a_warning() -> None:
    rules = (*REMOVED, FileRule(bases=(), paths=("usr/share/doc/*",), reason="nobody reads them"))
    found = account(make_survey(image()), collisions=COLLISIONS, generated=GENERATED, removed=rules).findings
    assert [(one.id, one.subject) for one in found] == [("rule-unused", "removed: usr/share/doc/*")]


def test_a_manual_that_is_left_out_without_a_rule_is_missing() -> None:
    found = account(make_survey(image()), collisions=COLLISIONS, generated=GENERATED, removed=()).findings
    assert [one.subject for one in found] == ["usr/share/man/bash.1"]


def test_a_rule_on_what_is_removed_is_not_for_python_packages() -> None:
    rules = (*REMOVED, FileRule(bases=(), paths=("opt/*",), reason="no"))
    files = without(f"{SITE}/torch/__init__.py")
    found = account(make_survey(files), collisions=COLLISIONS, generated=GENERATED, removed=rules).findings
    assert ("file-missing", f"{SITE}/torch/__init__.py") in [(one.id, one.subject) for one in found]


# ---- links


@pytest.mark.parametrize("target", ["nowhere", "/etc/none/x", "../x"])
def test_a_link_to_nothing_is_a_warning(target: str) -> None:
    found = accounts(with_file("usr/bin/sh", f"link:{target}")).findings
    assert [(one.id, one.severity, one.found) for one in found] == [("link-dangling", "warning", f"link to {target}")]


@pytest.mark.parametrize(
    "target", ["/dev/null", "../../proc/self/mounts", "/", "..", "/usr/lib/../bin/bash", "/lib/perl", "/opt/venv"]
)
def test_a_link_to_a_folder_or_to_what_a_container_has_is_none(target: str) -> None:
    """A folder need not have an entry of its own: /opt/venv."""
    assert findings(with_file("usr/bin/sh", f"link:{target}")) == []


def test_links_in_a_circle_lead_nowhere() -> None:
    files = with_file("usr/bin/sh", "link:sh")
    assert findings(files) == [("link-dangling", "usr/bin/sh")]


def test_a_link_to_what_is_left_out_is_none() -> None:
    assert findings(with_file("usr/bin/sh", "link:/usr/share/man/bash.1")) == []
