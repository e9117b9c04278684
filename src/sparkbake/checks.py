"""Read of the matrix what checks of an image go by: its section `checks`."""

from collections.abc import Collection

from sparkbake.devicecode import VERDICTS, Verdict
from sparkbake.fields import Fields
from sparkbake.rules import CodeRule, FileRule, Rules, Waiver
from sparkbake.versions import is_specifier

_PATH = r"[^\s/].*"


def read_rules(fields: Fields, bases: Collection[str]) -> Rules:
    """The rules of a matrix.

    Args:
        bases: the names of its bases.
    """
    code = fields.mapping("device_code")
    rules = Rules(
        least=_verdict(code, "least"),
        code=tuple(_code_rule(one) for one in code.items_or_empty("allow")),
        generated=tuple(_file_rule(one, bases) for one in fields.items_or_empty("generated")),
        removed=tuple(_file_rule(one, bases) for one in fields.items_or_empty("removed")),
        waivers=tuple(_waiver(one, bases) for one in fields.items_or_empty("waivers")),
    )
    code.done()
    fields.done()
    return rules


def _code_rule(fields: Fields) -> CodeRule:
    rule = CodeRule(
        paths=fields.texts("paths", pattern=_PATH, expected="a shell pattern of paths below site-packages"),
        verdict=_verdict(fields, "verdict"),
        versions=_versions(fields),
        reason=fields.text("reason"),
    )
    fields.done()
    return rule


def _verdict(fields: Fields, key: str) -> Verdict:
    name = fields.choice(key, VERDICTS)
    return next(one for one in VERDICTS if one == name)


def _file_rule(fields: Fields, bases: Collection[str]) -> FileRule:
    rule = FileRule(
        paths=fields.texts("paths", pattern=_PATH, expected="a shell pattern of paths of the image, without /"),
        bases=_bases(fields, bases),
        reason=fields.text("reason"),
    )
    fields.done()
    return rule


def _bases(fields: Fields, bases: Collection[str]) -> tuple[str, ...]:
    named = fields.texts_or_empty("bases", pattern=".+", expected="the name of a base")
    for name in named:
        if name and name not in bases:
            fields.fault("bases", f"got '{name}', expected one of the bases: {', '.join(sorted(bases))}")
    return named


def _waiver(fields: Fields, bases: Collection[str]) -> Waiver:
    waiver = Waiver(
        finding=fields.text("finding", pattern=r"[a-z0-9-]+", expected="the id of a finding, such as file-unowned"),
        subject=fields.text("subject"),
        versions=_versions(fields),
        bases=_bases(fields, bases),
        expires=fields.text(
            "expires", pattern=r"20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", expected="a date, YYYY-MM-DD"
        ),
        reason=fields.text("reason"),
    )
    fields.done()
    return waiver


def _versions(fields: Fields) -> str | None:
    versions = fields.text_or_none("versions")
    if versions and not is_specifier(versions):
        fields.fault("versions", f"got '{versions}', expected a PEP 440 specifier of vLLM releases such as >=0.28")
        return None
    return versions
