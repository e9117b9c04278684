"""What was read of a whole image, as values: every file of it once, with its layers on top of each other.

`survey` reads it; all checks of an image that run none of its programs (`inventory`, `accounting`, `linkage`,
`libraries`, `sbom`) are functions of this.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sparkbake.devicecode import Tally, Verdict
from sparkbake.dynamic import Dynamic
from sparkbake.imageinfo import Entry
from sparkbake.model import Pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """An entry of an image, with the layer it is of.

    Attributes:
        entry: a file's content is hashed; the target of a link is as written, that of a hard link a path of the image.
        layer: digest of the compressed layer.
        layer_name: "cuda.nvidia-cublas", "base", "system".
        md5: 32 hex digits of a file's content, which is what dpkg notes; "" of anything but a file, and in layers that
            our recipes copy.
    """

    entry: Entry
    layer: str
    layer_name: str
    md5: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """The device code of a file.

    Attributes:
        is_cubin: whether it is a cubin itself, and no program with device code in it.
        verdict: the best of its containers; that is how far it can run at all.
        containers: verdict and how many containers have it, best first, without those that have neither SASS nor PTX; a
            cubin counts as one.
        unlisted: how many of all its containers stand where cuobjdump does not look: fatbin.find_containers.
        emptied: SASS and PTX in whose place zeros stand: see pruning.
        lost: what of it the chip could have loaded.
        foreign: SASS that the chip cannot load and is not overwritten, where pruning looks.
        sass, ptx, other: what there is, by architecture, the lowest first.
    """

    is_cubin: bool
    verdict: Verdict
    containers: tuple[tuple[Verdict, int], ...]
    unlisted: int
    emptied: tuple[Tally, ...]
    lost: tuple[Tally, ...]
    foreign: tuple[Tally, ...]
    sass: tuple[Tally, ...]
    ptx: tuple[Tally, ...]
    other: tuple[Tally, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Binary:
    """An ELF file that could be read.

    Attributes:
        machine: e_machine; 183 of aarch64, 190 of a cubin.
        build_id: hex digits; None of a file without one.
        dynamic: None of a file that the dynamic linker does not load.
        code: None of a file without device code.
    """

    path: str
    machine: int
    build_id: str | None
    dynamic: Dynamic | None
    code: Code | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unread:
    """A file that begins as an ELF file does and cannot be read: damaged, or for another kind of machine."""

    path: str
    layer: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """An image as it is with its layers on top of each other.

    Attributes:
        image: as it was asked for.
        digest: of the manifest.
        config: of the image as canonical JSON.
        seen: path to entry, of everything: files, folders, links, hard links. In the order of the paths.
        texts: path to content, of the small files that say something of others (see `survey.is_text`), and of those
            that were asked for.
        binaries: path to ELF file; a hard link has none of its own.
    """

    image: str
    digest: str
    config: str
    labels: Pairs
    seen: Mapping[str, Seen]
    texts: Mapping[str, bytes]
    binaries: Mapping[str, Binary]
    unread: tuple[Unread, ...]
