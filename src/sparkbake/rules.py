"""What the matrix says images may be, as values: the rules that checks of an image go by."""

from dataclasses import dataclass

from sparkbake.devicecode import Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeRule:
    """Files whose device code may be worse for the chip than the least that is asked of all others.

    Attributes:
        paths: shell patterns of paths below site-packages.
        verdict: the worst that they may have.
        versions: a PEP 440 specifier of the vLLM releases that have them; None of all.
    """

    paths: tuple[str, ...]
    verdict: Verdict
    versions: str | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRule:
    """Files of an image that are not as packages of the operating system have them, and why.

    Attributes:
        paths: of an image, "etc/passwd"; shell patterns whose `*` crosses folders.
        bases: names of the bases that have them; empty of all.
    """

    paths: tuple[str, ...]
    bases: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiver:
    """A finding that is known and borne for a while.

    Attributes:
        finding: its id, "undefined-symbol".
        subject: a shell pattern of what it is about.
        versions: a PEP 440 specifier of the vLLM releases it is about; None of all.
        bases: names of the bases it is about; empty of all.
        expires: the last day on which it counts, YYYY-MM-DD.
    """

    finding: str
    subject: str
    versions: str | None
    bases: tuple[str, ...]
    expires: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """All that checks of an image go by.

    Attributes:
        least: the worst verdict of a file with device code that no rule is about.
        generated: files that no package carries: something makes them when packages are installed.
        removed: files that packages carry and the image does without; links may point there, too.
    """

    least: Verdict
    code: tuple[CodeRule, ...]
    generated: tuple[FileRule, ...]
    removed: tuple[FileRule, ...]
    waivers: tuple[Waiver, ...]
