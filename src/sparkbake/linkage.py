"""Say what the dynamic linker would not find in an image, as `ldd -r` does, and run nothing of it.

Rules: https://man7.org/linux/man-pages/man8/ld.so.8.html, as glibc has them on a Debian or Ubuntu.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from typing import Literal

from sparkbake.dynamic import Dynamic
from sparkbake.libraries import environment, image_machine
from sparkbake.paths import real_path
from sparkbake.surveyed import Survey

Fault = Literal["missing-library", "undefined-symbol", "elsewhere"]

# Of NVIDIA's driver, which is not in an image: the Container Toolkit mounts it when a container starts
# (https://docs.nvidia.com/datacenter/cloud-native/container-toolkit). Library, and the symbols that it gives; those of
# libcufile begin like those of libcuda and are of a package.
DRIVER = (
    ("libcuda.so*", r"cu(?!File)[A-Z]\w*"),
    ("libnvidia-ml.so*", r"nvml\w+"),
    ("libnvcuvid.so*", r"cuvid\w+"),
    ("libnvidia-encode.so*", r"NvEncode\w+"),
    ("libnvidia-*.so*", r"nv[A-Z]\w+"),
)

# What a file asks of whoever loads it: this one of the C library asks the debugger (glibc's proc_service.h).
_HOSTED = (("libthread_db.so*", r"ps_\w+"),)

_MULTIARCH = {183: "aarch64-linux-gnu", 62: "x86_64-linux-gnu"}
_INTERPRETER = re.compile(r"python3(\.\d+)?")
_EXTENSION = re.compile(r"\.(cpython-[^/]*|abi3)\.so$|/(site-packages|dist-packages|lib-dynload)/(.*/)?[^/]*\.so[^/]*$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unresolved:
    """What one file wants and will not get.

    Attributes:
        kind: "missing-library": no file of the image has that name. "undefined-symbol": no file of the image has it.
            "elsewhere": only files have it that this one does not need, so it works if another has loaded them before.
        names: of libraries or symbols, sorted.
        count: of the names.
        providers: paths of the files that have the symbols, sorted; empty of the other kinds.
    """

    path: str
    kind: Fault
    names: tuple[str, ...]
    count: int
    providers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preloaded:
    """A library that the search of the dynamic linker does not find and the image has.

    It is no fault: torch, for one, loads NVIDIA's libraries by their paths before its own, and whatever asks for a
    library of that name later gets it.

    Attributes:
        path: of the file that needs it.
        name: as it is needed: "libcudart.so.13".
        found: paths of the files of that name or soname, sorted.
    """

    path: str
    name: str
    found: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Linkage:
    """The result for an image.

    Attributes:
        checked: how many files were.
        unresolved: by path and kind.
        preloaded: by path, then in the order they are needed.
    """

    checked: int
    unresolved: tuple[Unresolved, ...]
    preloaded: tuple[Preloaded, ...]


# ---- which file a needed name is


@dataclass(frozen=True, kw_only=True, slots=True)
class _Files:
    """All that can be loaded in an image.

    Attributes:
        dynamic: of each file for the image's machine.
        named: soname and file name to the paths of libraries, sorted.
        always: folders that are searched for every file, in order: of LD_LIBRARY_PATH, of the cache, the defaults.
    """

    survey: Survey
    dynamic: Mapping[str, Dynamic]
    named: Mapping[str, tuple[str, ...]]
    always: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Need:
    """What became of a needed name.

    Attributes:
        paths: of the file that the search finds, or of those that may have been loaded before.
    """

    name: str
    how: Literal["found", "preloaded", "driver", "missing"]
    paths: tuple[str, ...] = ()


_AllNeeds = Mapping[str, tuple[_Need, ...]]


def _files(survey: Survey) -> _Files:
    machine = image_machine(survey)
    dynamic = {
        path: one.dynamic for path, one in survey.binaries.items() if one.machine == machine and one.dynamic is not None
    }
    named: dict[str, set[str]] = {}
    for path, one in dynamic.items():
        named.setdefault(one.soname or posixpath.basename(path), set()).add(path)
    for path, seen in survey.seen.items():
        name = posixpath.basename(path)
        real = real_path(survey.seen, path) if ".so" in name and seen.entry.kind != "folder" else None
        if real in dynamic:
            named.setdefault(name, set()).add(real)
    defaults = (f"/lib/{_MULTIARCH[machine]}", f"/usr/lib/{_MULTIARCH[machine]}", "/lib", "/usr/lib")
    given = environment(survey).get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")
    return _Files(
        survey=survey,
        dynamic=dynamic,
        named={name: tuple(sorted(paths)) for name, paths in named.items()},
        always=(*(one for one in given if one), *_configured(survey), *defaults),
    )


def _configured(survey: Survey) -> Iterator[str]:
    """Folders of ld.so.conf; they count where ldconfig wrote a cache, which is all that the dynamic linker reads."""
    if "etc/ld.so.cache" not in survey.seen:
        return
    for path in sorted(survey.texts):
        if path == "etc/ld.so.conf" or fnmatchcase(path, "etc/ld.so.conf.d/*.conf"):
            lines = (line.partition("#")[0].strip() for line in survey.texts[path].decode(errors="replace").split("\n"))
            yield from (line for line in lines if line.startswith("/"))


def _need(files: _Files, path: str, name: str) -> _Need:
    library = _search(files, path, name)
    if library:
        return _Need(name=name, how="found", paths=(library,))
    if any(fnmatchcase(name, pattern) for pattern, _symbols in DRIVER):
        return _Need(name=name, how="driver")
    others = files.named.get(name, ())
    return _Need(name=name, how="preloaded" if others else "missing", paths=others)


def _search(files: _Files, path: str, name: str) -> str | None:
    """The file that the dynamic linker takes; one for another machine it passes over.

    A RPATH, which also counts for what a library needs in turn, is taken for a RUNPATH, which does not: what is found
    just by that is preloaded here.
    """
    origin = "/" + posixpath.dirname(path)
    own = (one.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for one in files.dynamic[path].search)
    for folder in [""] if "/" in name else [*own, *files.always]:
        real = real_path(files.survey.seen, f"{folder}/{name}")
        if real in files.dynamic:
            return real
    return None


# ---- the check


def unresolved(survey: Survey) -> Linkage:
    """Check each ELF file for the image's own machine that the dynamic linker loads.

    A symbol is resolved by the file, by what it needs directly or in turn, or by the driver where that is needed; in a
    module of Python also by the interpreter and what that needs. What is left may be all of one process still: of a
    file that needs this one, or of a program that has some of the symbols, as Perl has those of its modules. Of a file
    that lacks a library, or needs one that does, symbols are not looked at: most likely they are of that library.

    Raises:
        ImageError: the image's architecture is not known here.
    """
    files = _files(survey)
    needs = {path: tuple(_need(files, path, name) for name in one.needed) for path, one in files.dynamic.items()}
    left = _left(files, needs)
    providers = _providers(files, {number for wanted in left.values() for number in wanted})
    faults = [_fault(path, "missing-library", _names(some, "missing")) for path, some in needs.items()]
    for path, wanted in left.items():
        nowhere = [name for number, name in wanted.items() if number not in providers]
        others = [number for number in wanted if number in providers]
        having = chain.from_iterable(providers[number] for number in others)
        faults.append(_fault(path, "undefined-symbol", nowhere))
        faults.append(_fault(path, "elsewhere", (wanted[number] for number in others), having))
    return Linkage(
        checked=len(files.dynamic),
        unresolved=tuple(sorted((one for one in faults if one.count), key=lambda one: (one.path, one.kind))),
        preloaded=tuple(
            Preloaded(path=path, name=one.name, found=one.paths)
            for path in sorted(needs)
            for one in needs[path]
            if one.how == "preloaded"
        ),
    )


def _fault(path: str, kind: Fault, names: Iterable[str], providers: Iterable[str] = ()) -> Unresolved:
    once = tuple(sorted(set(names)))
    return Unresolved(path=path, kind=kind, names=once, count=len(once), providers=tuple(sorted(set(providers))))


def _names(some: Iterable[_Need], how: str) -> list[str]:
    return [one.name for one in some if one.how == how]


def _closure(needs: _AllNeeds, paths: Iterable[str]) -> tuple[str, ...]:
    """Files and all that they need, breadth first, which is the order of the dynamic linker's look-up."""
    found = dict.fromkeys(paths)
    todo = list(found)
    for path in todo:  # which grows meanwhile
        new = dict.fromkeys(library for one in needs[path] for library in one.paths if library not in found)
        found |= new
        todo += new
    return tuple(found)


def _left(files: _Files, needs: _AllNeeds) -> dict[str, dict[int, str]]:
    """Path to the hashes and names of the symbols that no rule resolves."""
    loaded = {path: _closure(needs, [path]) for path in files.dynamic}
    python = _closure(needs, (path for path in files.dynamic if _INTERPRETER.fullmatch(posixpath.basename(path))))
    modules = {one for path in files.dynamic if _EXTENSION.search("/" + path) for one in loaded[path]}
    programs = [path for path in files.dynamic if ".so" not in posixpath.basename(path)]
    left: dict[str, dict[int, str]] = {}
    for path, closure in loaded.items():
        if any(_names(needs[one], "missing") for one in closure):
            continue
        drivers = {name for one in closure for name in _names(needs[one], "driver")}
        wanted = _without(files, _wanted(files, path, drivers), closure)
        wanted = _without(files, wanted, python if path in modules else ())
        if not wanted:
            continue
        hosts = [one for one in programs if wanted.keys() & files.dynamic[one].defined]
        hosts += [one for one in loaded if path in loaded[one]]
        if all(_without(files, wanted, loaded[one]) for one in hosts):
            left[path] = wanted
    return left


def _wanted(files: _Files, path: str, drivers: set[str]) -> dict[int, str]:
    """The symbols that a file wants, without those that the driver or the program that loads it gives."""
    named = {*drivers, posixpath.basename(path)}
    given = [symbols for pattern, symbols in (*DRIVER, *_HOSTED) if any(fnmatchcase(name, pattern) for name in named)]
    names = re.compile("|".join(given) or r"(?!)")
    return {hash(name.encode()): name for name in files.dynamic[path].undefined if not names.fullmatch(name)}


def _without(files: _Files, wanted: dict[int, str], paths: Iterable[str]) -> dict[int, str]:
    """What is left when these files are loaded."""
    left = set(wanted)
    for path in paths:
        left -= files.dynamic[path].defined
    return {number: wanted[number] for number in left}


def _providers(files: _Files, wanted: set[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for path, one in files.dynamic.items():
        for number in wanted & one.defined:
            found.setdefault(number, []).append(path)
    return found
