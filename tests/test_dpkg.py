"""Claims about dpkg's files: what is read of real shapes of them, and what is wrong with a damaged one."""

import pytest

from sparkbake.dpkg import (
    AlternativeLink,
    Diversion,
    ListedFile,
    OsPackage,
    parse_alternative,
    parse_diversions,
    parse_list,
    parse_md5sums,
    parse_status,
    read_database,
)
from sparkbake.errors import ImageError

MD5 = "0123456789abcdef0123456789abcdef"
OTHER_MD5 = 32 * "f"

BASH = f"""\
Package: bash
Status: install ok installed
Maintainer: A Person <person@example.com>
Architecture: arm64
Source: bash-source (5.2-1)
Version: 5.2-1+b1
Conffiles:
 /etc/bash.bashrc {MD5}
 /etc/with space {OTHER_MD5} obsolete
 /etc/coming newconffile remove-on-upgrade
Description: a shell
 It has more lines.
 .
 Many.
"""
AWK = """\
auto
/usr/bin/awk
awk.1.gz
/usr/share/man/man1/awk.1.gz
nawk
/usr/bin/nawk

/usr/bin/mawk
5
/usr/share/man/man1/mawk.1.gz
/usr/bin/mawk
/usr/bin/small-awk
1



"""


def paragraph(name: str = "x", *, status: str = "install ok installed", more: str = "") -> str:
    return f"Package: {name}\nStatus: {status}\nArchitecture: arm64\nVersion: 1\n{more}"


# ---- status


def test_a_package_says_what_it_is_and_what_it_was_built_from() -> None:
    assert parse_status(BASH) == (
        OsPackage(
            name="bash",
            architecture="arm64",
            version="5.2-1+b1",
            source="bash-source",
            source_version="5.2-1",
            maintainer="A Person <person@example.com>",
            conffiles=(("etc/bash.bashrc", MD5), ("etc/with space", OTHER_MD5)),
        ),
    )


def test_a_package_without_source_was_built_from_one_of_its_own_name_and_version() -> None:
    found = parse_status(paragraph("x"))[0]
    assert (found.source, found.source_version, found.maintainer) == ("x", "1", "")


def test_a_source_without_version_has_the_version_of_the_package() -> None:
    found = parse_status(paragraph("x", more="Source: y\n"))[0]
    assert (found.source, found.source_version) == ("y", "1")


@pytest.mark.parametrize(
    ("status", "is_installed"),
    [
        ("install ok installed", True),
        ("hold ok installed", True),
        ("install ok triggers-awaited", True),
        ("install ok triggers-pending", True),
        ("deinstall ok config-files", False),
        ("install ok half-installed", False),
        ("unknown ok not-installed", False),
    ],
)
def test_only_what_is_installed_counts(status: str, *, is_installed: bool) -> None:
    assert bool(parse_status(paragraph(status=status))) == is_installed


def test_packages_keep_their_order_whatever_separates_them() -> None:
    text = f"\n{paragraph('b')}\n\n \n{paragraph('a')}\n"
    assert [one.name for one in parse_status(text)] == ["b", "a"]


@pytest.mark.parametrize("text", ["", "\n", "\n\n"])
def test_an_empty_status_has_no_packages(text: str) -> None:
    assert parse_status(text) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            paragraph("good") + "\nPackage: bad\nStatus: install ok installed\nArchitecture: all\n",
            r"^var/lib/dpkg/status: paragraph 2 \(bad\): has no Version; build the image anew",
        ),
        ("Status: install ok installed\n", r"paragraph 1 \(of no package\): has no Package and no Version and no Arch"),
        (paragraph(more="nonsense\n"), "paragraph 1: got 'nonsense', expected a new field"),
        (paragraph(more="Version: 2\n"), "paragraph 1: got 'Version: 2', expected a new field"),
        (" of nothing\n", "paragraph 1: got ' of nothing', expected a new field"),
        (paragraph(more="Source: y (1\n"), r"paragraph 1 \(x\): got Source 'y \(1', expected 'NAME \(VERSION\)'"),
        (paragraph(more="Conffiles:\n /etc/x 123\n"), r"got the conffile ' /etc/x 123', expected ' /PATH MD5'"),
    ],
)
def test_a_damaged_paragraph_is_refused_and_named(text: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        parse_status(text)


# ---- files


def test_a_list_has_paths_of_the_image() -> None:
    assert parse_list("/.\n/etc\n/etc/with space\n/usr/\n") == ("etc", "etc/with space", "usr")


def test_md5sums_are_by_path() -> None:
    text = f"{MD5}  usr/bin/x\n{OTHER_MD5}  ./etc/with  spaces\n{MD5}  lib/a\\x2db\n"
    sums = {"usr/bin/x": MD5, "etc/with  spaces": OTHER_MD5, "lib/a\\x2db": MD5}
    assert parse_md5sums(text, "x.md5sums") == sums


@pytest.mark.parametrize("line", ["0123  usr/bin/x", MD5, f"{MD5} usr/bin/x", f"{MD5[1:]}X  usr/bin/x"])
def test_a_damaged_md5sum_is_refused(line: str) -> None:
    with pytest.raises(ImageError, match=r"^x\.md5sums: got '.*', expected 32 hex digits and a path"):
        parse_md5sums(f"{line}\n", "x.md5sums")


def test_a_diversion_takes_three_lines() -> None:
    assert parse_diversions("/lib64\n/.lib64.merged\nbase-files\n/usr/bin/x\n/usr/bin/x.real\n:\n") == (
        Diversion(path="lib64", diverted=".lib64.merged", package="base-files"),
        Diversion(path="usr/bin/x", diverted="usr/bin/x.real", package=":"),
    )


def test_diversions_that_are_cut_off_are_refused() -> None:
    with pytest.raises(ImageError, match="diversions: 2 lines, expected three for each diversion"):
        parse_diversions("/lib64\n/.lib64.merged\n")


def test_alternatives_are_links_to_links() -> None:
    """A second alternative lacks the manual, so only one target is left of that."""
    assert parse_alternative("awk", AWK) == (
        AlternativeLink(path="usr/bin/awk", targets=("/etc/alternatives/awk",), is_main=True),
        AlternativeLink(path="etc/alternatives/awk", targets=("/usr/bin/mawk", "/usr/bin/small-awk"), is_main=True),
        AlternativeLink(
            path="usr/share/man/man1/awk.1.gz", targets=("/etc/alternatives/awk.1.gz",), is_main=False
        ),
        AlternativeLink(path="etc/alternatives/awk.1.gz", targets=("/usr/share/man/man1/mawk.1.gz",), is_main=False),
        AlternativeLink(path="usr/bin/nawk", targets=("/etc/alternatives/nawk",), is_main=False),
        AlternativeLink(path="etc/alternatives/nawk", targets=("/usr/bin/mawk",), is_main=False),
    )  # fmt: skip


def test_an_alternative_without_further_links() -> None:
    found = parse_alternative("cc", "manual\n/usr/bin/cc\n\n/usr/bin/gcc\n20\n\n")
    assert [one.targets for one in found] == [("/etc/alternatives/cc",), ("/usr/bin/gcc",)]


@pytest.mark.parametrize(
    "text",
    ["", "auto\n", "auto\n/usr/bin/awk\n\n", AWK.replace("\n5\n", "\n"), AWK[:-2], AWK.replace("nawk\n/", "/", 1)],
)
def test_a_damaged_alternative_is_refused(text: str) -> None:
    with pytest.raises(ImageError, match="alternatives/awk: is not whole, expected links and alternatives"):
        parse_alternative("awk", text)


# ---- all of it


def database_texts(**more: str) -> dict[str, bytes]:
    """Of two packages."""
    texts = {
        "status": f"{paragraph('a')}\n{paragraph('b')}",
        "info/a.list": "/.\n/usr\n/usr/bin\n/usr/bin/a\n/etc/a.conf\n",
        "info/a.md5sums": f"{MD5}  usr/bin/a\n{MD5}  usr/bin/taken-over\n",
        "info/b:arm64.list": "/usr/bin/a\n",
        "diversions": "/usr/bin/a\n/usr/bin/a.real\nb\n",
    }
    return {f"var/lib/dpkg/{path}": text.encode() for path, text in {**texts, **more}.items()}


def test_files_have_their_package_and_their_md5() -> None:
    """Of b, which diverts a's file and puts its own there; a's sum of a file that it does not list any more is left."""
    database = read_database(database_texts())
    assert [one for one in database.files if "/" in one.path and one.path != "usr/bin"] == [
        ListedFile(path="usr/bin/a.real", package="a", md5=MD5),
        ListedFile(path="etc/a.conf", package="a", md5=""),
        ListedFile(path="usr/bin/a", package="b", md5=""),
    ]


def test_the_md5_of_a_configuration_file_stands_in_the_status() -> None:
    status = paragraph("a", more=f"Conffiles:\n /etc/a.conf {OTHER_MD5}\n")
    database = read_database(database_texts(status=status))
    assert ListedFile(path="etc/a.conf", package="a", md5=OTHER_MD5) in database.files


def test_records_are_named_with_or_without_the_architecture() -> None:
    assert read_database(database_texts()).records == {"a", "b:arm64"}


def test_a_package_without_a_list_is_told() -> None:
    assert read_database(database_texts(status=paragraph("c"))).unlisted == ("c",)


def test_what_is_no_more_installed_owns_nothing() -> None:
    assert read_database(database_texts(status=paragraph("a", status="deinstall ok config-files"))).files == ()


def test_an_image_without_dpkg_has_packages_all_the_same() -> None:
    """As distroless images have them: no Status, no list."""
    texts = {
        "var/lib/dpkg/status.d/tzdata": b"Package: tzdata\nVersion: 1\nArchitecture: all\n",
        "var/lib/dpkg/status.d/tzdata.md5sums": f"{MD5}  usr/share/zoneinfo/UTC\n".encode(),
    }
    database = read_database(texts)
    assert [one.name for one in database.packages] == ["tzdata"]
    assert database.files == (ListedFile(path="usr/share/zoneinfo/UTC", package="tzdata", md5=MD5),)


def test_an_image_without_any_packages_is_none_of_our_business() -> None:
    database = read_database({"usr/share/x": b"\xff"})
    assert (database.packages, database.files, database.alternatives) == ((), (), ())


def test_alternatives_are_read_by_their_file_names() -> None:
    database = read_database({"var/lib/dpkg/alternatives/awk": AWK.encode()})
    assert [one.path for one in database.alternatives][:2] == ["usr/bin/awk", "etc/alternatives/awk"]


def test_a_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(ImageError, match=r"^var/lib/dpkg/status: is not UTF-8: "):
        read_database({"var/lib/dpkg/status": b"Package: \xff"})
