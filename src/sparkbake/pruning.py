"""Overwrite the cubins in a program that a chip cannot load with zeros, and leave all else as it is.

A driver takes, of each container, what fits the chip by the entries' headers, and reads no other payload. So headers,
places and sizes stay, and with them every offset in the file and its Build-ID; what is gone packs to nothing in a
compressed layer. Tried on an H200, with what 9.0 cannot load: benchmarks/pruned_code.py.

Beside the standard library this needs elf, errors, fatbin and devicecode alone: recipes/scripts/layout.py runs it in a
build.
"""

from typing import IO

from sparkbake.devicecode import verdict_of
from sparkbake.elf import read_elf
from sparkbake.errors import ImageError
from sparkbake.fatbin import read_payloads

_PIECE = bytes(1 << 20)


def prune(where: str, file: IO[bytes], chip: int) -> int:
    """Overwrite SASS that does not run on a chip. PTX stays, and a second time there is nothing to do.

    Args:
        where: the file, for messages.
        file: seekable, open for reading and writing.
        chip: compute capability, 121 for 12.1.

    Returns:
        How many bytes were overwritten.

    Raises:
        ImageError: the file is no ELF file, damaged, or has such SASS packed as one with other; nothing is written.
    """
    found = []
    for code, at in read_payloads(where, file, read_elf(where, file)):
        if code.kind != "sass" or code.is_emptied or verdict_of(code, chip) != "none":
            continue
        if at is None:
            raise ImageError(
                f"{where}: {code.name} is packed as one with others, expected each by itself; do not prune it"
            )
        found.append((at, code.stored_bytes))
    for at, size_bytes in found:
        file.seek(at)
        for done in range(0, size_bytes, len(_PIECE)):
            file.write(_PIECE[: size_bytes - done])
    return sum(size_bytes for _at, size_bytes in found)
