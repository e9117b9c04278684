"""Hold what is overwritten of an image's device code against its plan, and against what the image notes of it.

A survey reads headers, and the first eight bytes of what belongs to each: code of this chip that is gone but for these
would not be noticed here. What a file as a whole should be, its PRUNED.json says (see accounting).
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from sparkbake.findings import Finding, of_build
from sparkbake.inventory import Inventory
from sparkbake.model import Trim
from sparkbake.paths import below_site, real_path
from sparkbake.pythonfiles import is_pruned_note, pruned_files
from sparkbake.surveyed import Survey


def judge_pruned(survey: Survey, inventory: Inventory, tag: str, trims: Sequence[Trim]) -> Iterator[Finding]:
    """Find where other cubins are overwritten than a chip cannot load, in files that trims name, and than notes say.

    Args:
        trims: of the plan; of an image that has all none.

    Raises:
        ImageError: a PRUNED.json is damaged.
    """
    named = [(one.package, path) for one in trims if one.cubins for path in one.paths]
    for one in inventory.files:
        is_named = is_among(one.package, below_site(one.path), named)
        for tally in one.lost if is_named else one.emptied:
            found = f"{tally.count} of {tally.name} overwritten with zeros"
            yield of_build("pruned", one.path, tag=tag, found=found, expected="as the wheel has them")
        for tally in one.foreign if is_named else ():
            found = f"{tally.count} of {tally.name}, which the chip cannot load"
            yield of_build("pruned", one.path, tag=tag, found=found, expected="overwritten with zeros")
    for noted in (one for note in filter(is_pruned_note, survey.texts) for one in pruned_files(survey.texts, note)):
        binary = survey.binaries.get(real_path(survey.seen, noted.path) or noted.path)
        gone = sum(tally.size_bytes for tally in binary.code.emptied) if binary and binary.code else 0
        if gone != noted.gone_bytes:
            expected = f"{noted.gone_bytes} bytes of it, by PRUNED.json"
            yield of_build("pruned", noted.path, tag=tag, found=f"{gone} bytes overwritten", expected=expected)


def is_among(package: str, path: str, named: Sequence[tuple[str, str]]) -> bool:
    """Whether one of some packages and patterns is about a file, by its path below site-packages."""
    return any(package == of and fnmatchcase(path, pattern) for of, pattern in named)
