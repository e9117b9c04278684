"""Read of the matrix which tags move, and say where each of them belongs: its section `publish`."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from sparkbake.fields import Fields

_PLACEHOLDER = re.compile(r"\{(.*?)\}")
_PLACEHOLDERS = ("minor", "variant")
# A registry, with its port if need be: https://github.com/distribution/reference, grammar of names.
HOST = r"[a-z0-9]+(?:[.-][a-z0-9]+)*(?::\d+)?"
# A repository in it, by the same grammar.
NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+|/)[a-z0-9]+)*"


@dataclass(frozen=True, kw_only=True, slots=True)
class Moving:
    """Tags that move to the highest of the rows they are about.

    Attributes:
        template: "latest", "{variant}", "{minor}-{variant}"; a row is about the tag that it gives with "{minor}" being
            "0.32" and "{variant}" "t5" of 0.32.0-t5.
    """

    template: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Withdrawn:
    """A row that no moving tag names any more; its own tag stays where it is."""

    tag: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tagging:
    """All that the matrix says about what a registry gets.

    Attributes:
        hosts: registry as image names have it to the host that answers for it, where these are two.
        base: that published images of rows which are installed from wheels stand on; None where nothing says so.
    """

    moving: tuple[Moving, ...]
    withdrawn: tuple[Withdrawn, ...]
    hosts: tuple[tuple[str, str], ...]
    base: str | None = None


def read_tagging(fields: Fields) -> Tagging:
    """The section `publish` of a matrix; all of it may be absent."""
    moving = tuple(_moving(one) for one in fields.items_or_empty("moving"))
    templates = [one.template for one in moving]
    for name in sorted({one for one in templates if one and templates.count(one) > 1}):
        fields.fault("moving", f"'{name}' stands twice, expected once; remove one of them")
    hosts = fields.mapping_or_empty("hosts")
    tagging = Tagging(
        moving=moving,
        withdrawn=tuple(_withdrawn(one) for one in fields.items_or_empty("withdrawn")),
        hosts=tuple((name, _host(hosts, name)) for name in hosts.keys),
        base=fields.text_or_none("base", pattern=".+", expected="the name of a base"),
    )
    fields.done()
    return tagging


def _moving(fields: Fields) -> Moving:
    expected = "a tag such as latest or {minor}-{variant}"
    moving = Moving(
        template=fields.text("tag", pattern=r"(?:[a-zA-Z0-9_]|\{\w+\})(?:[a-zA-Z0-9._-]|\{\w+\})*", expected=expected),
        reason=fields.text("reason"),
    )
    for name in _PLACEHOLDER.findall(moving.template):
        if name not in _PLACEHOLDERS:
            known = " and ".join(f"{{{one}}}" for one in _PLACEHOLDERS)
            fields.fault("tag", f"got '{{{name}}}' in it, expected of such only {known}")
    fields.done()
    return moving


def _withdrawn(fields: Fields) -> Withdrawn:
    found = Withdrawn(tag=fields.text("tag"), reason=fields.text("reason"))
    fields.done()
    return found


def _host(hosts: Fields, name: str) -> str:
    return hosts.text(name, pattern=HOST, expected="a host such as registry.example:5000")


def tags_of(tagging: Tagging, tag: str, *, release: str, major: int) -> tuple[str, ...]:
    """The moving tags that may name a row; none of a pre-release, and none of a row that is withdrawn.

    Args:
        tag: of the row.
        major: of its transformers.
    """
    version = Version(release)
    if version.is_prerelease or tag in {one.tag for one in tagging.withdrawn}:
        return ()
    first, second = (*version.release, 0)[:2]
    placeholders = {"minor": f"{first}.{second}", "variant": f"t{major}"}
    return tuple(_PLACEHOLDER.sub(lambda found: placeholders[found[1]], one.template) for one in tagging.moving)


def check_tagging(
    tagging: Tagging,
    rows: Mapping[str, Sequence[str]],
    fields: Fields,
    *,
    bases: Sequence[str],
    variants: Collection[str] = (),
) -> None:
    """Report a base and a withdrawn row that there is none of, and a moving tag that is a row's own.

    Args:
        bases: names of all that there are.
        variants: tags of what rows can be compiled as, too.
        rows: tag of each row, and each that it replaces, to the moving tags that may name it.
        fields: the section.
    """
    if tagging.base is not None and tagging.base not in bases:
        fields.fault("base", f"got '{tagging.base}', expected one of {', '.join(bases)}")
    for one in tagging.withdrawn:
        if one.tag not in rows:
            fields.fault("withdrawn", f"got '{one.tag}', expected the tag of a row; correct or remove it")
    for name in sorted({name for names in rows.values() for name in names}.intersection({*rows, *variants})):
        kind = "row" if name in rows else "variant"
        fields.fault("moving", f"gives '{name}', which is the tag of a {kind} and never moves; choose another")
