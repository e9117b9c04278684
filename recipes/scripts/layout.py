"""Runs inside a build, natively: installs the locked environment for the target and deals its files into layers.

The context holds requirements.txt (one file hash a package), installer.txt (uv itself, hashed), manifest.json for the
image, runtime/ with files that it has by itself, and layers.json (`layers`: layer name to distribution names;
`collisions`: paths below site-packages that several packages carry with different content, and whose the image keeps,
if any; `trims`: files that the image does without, or cubins in them that a chip of `compute_capability` cannot load),
and sparkbake/ with modules that know of cubins. The result is /layers/<layer>/opt/venv/..., every file in exactly one
of them; /layers/skeleton with the virtual environment itself and the CUDA folder, made of links into packages;
/layers/runtime; and /layers/manifest with what the image says of itself.
"""

import argparse
import base64
import csv
import filecmp
import fnmatch
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from sparkbake.devicecode import chip_number
from sparkbake.errors import ImageError
from sparkbake.pruning import prune

VENV = Path("/opt/venv")
CA = Path("/dev/sparkbake/ca.pem")
INDEX = Path("/dev/sparkbake/index")
INSTALLER = Path("/tmp/installer")  # noqa: S108  (of this build step alone)
# Beside a package's RECORD, which still lists all that its wheel holds: what the image lacks of it.
TRIMMED = "TRIMMED.json"
# And which files are not as RECORD has them: path to what they are now, and how many bytes of cubins are gone.
PRUNED = "PRUNED.json"
# Below that a link spares nothing worth it.
LEAST_LINKED_BYTES = 65536
STARTED = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--context", type=Path, required=True)
    parser.add_argument("--platform", required=True, help="as uv names it: aarch64-manylinux_2_39")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    os.umask(0o022)
    say("making the virtual environment")
    run(sys.executable, "-m", "venv", "--without-pip", "--symlinks", VENV)
    skeleton = set(files_below(VENV))
    asked = json.loads((options.context / "layers.json").read_text(encoding="utf-8"))
    installed = {name for names in asked["layers"].values() for name in names}
    kept = sorted({rule["keep"] for rule in asked["collisions"] if rule["keep"] in installed})
    install(options.context, options.platform, kept)
    owners = deal(asked["layers"], asked["collisions"])
    trim([one for one in asked["trims"] if not one["cubins"]], owners)
    prune_code([one for one in asked["trims"] if one["cubins"]], owners, chip_number(asked["compute_capability"]))
    link_copies(owners)
    move(owners, options.output)
    move(dict.fromkeys(skeleton, "skeleton"), options.output)
    left = sorted(files_below(VENV))
    if left:
        fail(f"{len(left)} files belong to no package: {', '.join(str(one) for one in left[:10])}")
    link_cuda(options.output)
    make_folders(options.output / "skeleton")
    add_runtime(options.context / "runtime", options.output / "runtime")
    describe(options.context / "manifest.json", options.output)
    settle(options.output, int(os.environ["FILE_EPOCH"]))
    say("done")


def say(text: str) -> None:
    print(f"layout: {time.monotonic() - STARTED:.0f} s: {text}", flush=True)


def fail(text: str) -> NoReturn:
    print(f"layout: error: {text}", file=sys.stderr, flush=True)
    sys.exit(1)


def run(*argv: str | Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run([str(one) for one in argv], env={**os.environ, **(env or {})}, check=False)
    if done.returncode:
        fail(f"{argv[0]} ended with {done.returncode}")


def install(context: Path, platform: str, kept: list[str]) -> None:
    """Install the environment; the files of the packages in `kept` are written last, over those of others."""
    outside: dict[str, str] = {}
    if CA.exists() and CA.stat().st_size:
        outside |= {"SSL_CERT_FILE": str(CA), "PIP_CERT": str(CA)}
    if INDEX.exists() and INDEX.stat().st_size:
        index = INDEX.read_text(encoding="utf-8").strip()
        outside |= {"UV_DEFAULT_INDEX": index, "PIP_INDEX_URL": index}
    say("fetching the installer")
    run(sys.executable, "-m", "venv", INSTALLER)
    pip: list[str | Path] = [
        INSTALLER / "bin/python",
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
        "--no-cache-dir",
    ]
    run(*pip, "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", context / "installer.txt", env=outside)
    say("fetching and installing the environment")
    uv: list[str | Path] = [
        INSTALLER / "bin/uv",
        "pip",
        "install",
        "--python",
        VENV / "bin/python",
        "--python-platform",
        platform,
    ]
    uv += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile-bytecode", "--link-mode", "copy"]
    run(*uv, "-r", context / "requirements.txt", env={"UV_HTTP_TIMEOUT": "300", **outside})
    for name in kept:
        run(*uv, "-r", context / "requirements.txt", "--reinstall-package", name, env=outside)
    (VENV / ".lock").unlink(missing_ok=True)  # uv's own, while it works


def files_below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in names + links:
            yield Path(root) / name


def site_packages() -> Path:
    return VENV / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def deal(layers: dict[str, list[str]], collisions: list[dict[str, str | None]]) -> dict[Path, str]:
    """Layer of every installed file, by the RECORD of its distribution."""
    layer_of = {name: layer for layer, names in layers.items() for name in names}
    order = {name: place for place, name in enumerate(layers)}
    say(f"dealing {len(layer_of)} packages into {len(layers)} layers")
    claims = read_claims(layer_of)
    # What two packages carry with different content is the work of whichever was written last: it depends on chance.
    colliding = {path: dict(some) for path, some in claims.items() if len({digest for _name, digest in some}) > 1}
    rules = {path: rule_of(path, carriers, collisions) for path, carriers in colliding.items()}
    if unknown := sorted(path for path, rule in rules.items() if rule is None):
        told = "; ".join(f"{path} ({' and '.join(colliding[path])})" for path in unknown[:20])
        fail(f"carried with different content by several packages, add to `collisions` in matrix.yaml: {told}")
    # What several packages carry alike is in the first of their layers: the last is that of the sibling's differences.
    owners = {
        path: min((layer_of[name] for name, _digest in some), key=order.__getitem__) for path, some in claims.items()
    }
    for path, rule in sorted(rules.items()):
        keep = rule["keep"] if rule else None
        carriers = " and ".join(colliding[path])
        if keep is None:
            say(f"leaving out {path}, which {carriers} carry")
            path.unlink()
            del owners[path]
        else:
            if record_digest(path) != colliding[path][keep]:
                fail(f"{path}, which {carriers} carry, is not that of {keep}")
            owners[path] = layer_of[keep]
    say(f"{len(rules)} paths were carried with different content")
    return owners


def trim(trims: list[dict[str, Any]], owners: dict[Path, str]) -> None:
    """Remove what trims name, and write down beside each package's RECORD what it lacks, with sizes in bytes."""
    known = carriers()
    for package in sorted({rule["package"] for rule in trims}):
        info, files = files_of(package)
        removed: dict[Path, int] = {}
        for rule in (one for one in trims if one["package"] == package):
            gone = matching(files - set(removed), rule)
            if shared := [path for path in gone if known[path] != {package}]:
                others = " and ".join(sorted(known[shared[0]] - {package}))
                fail(f"trimming {package} would remove {shared[0]}, which {others} carries, too")
            sizes = {path: path.stat().st_size for path in gone}
            saved, least = sum(sizes.values()), rule["saves_bytes"]
            if saved < least:
                fail(f"trimming {rule['paths']} of {package} saves {saved} bytes, expected {least} or more")
            say(f"leaving out {len(gone)} files of {package}, {saved / 1e6:.1f} MB")
            removed |= sizes
        note = info / TRIMMED
        owners[note] = owners[info / "RECORD"]
        below = {os.path.relpath(path, site_packages()): size for path, size in sorted(removed.items())}
        note.write_text(json.dumps(below, indent=1) + "\n", encoding="utf-8")
        for path in removed:
            path.unlink()
            del owners[path]


def prune_code(trims: list[dict[str, Any]], owners: dict[Path, str], chip: int) -> None:
    """Overwrite in the files that trims name the cubins a chip cannot load, and write down what the files are now."""
    known = carriers()
    for package in sorted({rule["package"] for rule in trims}):
        info, files = files_of(package)
        listed = dict(record(site_packages(), info))
        pruned: dict[str, dict[str, Any]] = {}
        for rule in (one for one in trims if one["package"] == package):
            spared, least = 0, rule["saves_bytes"]
            for path in matching(files, rule):
                if others := " and ".join(sorted(known[path] - {package})):
                    fail(f"pruning {package} would change {path}, which {others} carries, too")
                if record_digest(path) != listed[path]:
                    fail(f"{path} is not as the RECORD of {package} has it, before anything is pruned")
                files.discard(path)
                gone = overwrite(path, chip)
                pruned[os.path.relpath(path, site_packages())] = {"sha256": content_of(path)[7:], "bytes": gone}
                spared += gone
            if spared < least:
                fail(f"pruning {rule['paths']} of {package} saves {spared} bytes, expected {least} or more")
            say(f"overwriting cubins of other chips in {rule['paths']} of {package}, {spared / 1e6:.1f} MB")
        note = info / PRUNED
        owners[note] = owners[info / "RECORD"]
        note.write_text(json.dumps(pruned, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def overwrite(path: Path, chip: int) -> int:
    """Prune a file; one without anything to prune is a fault of the matrix. Returns how many bytes are gone."""
    try:
        with path.open("r+b") as file:
            gone = prune(os.path.relpath(path, site_packages()), file, chip)
    except ImageError as err:
        fail(str(err))
    if not gone:
        fail(f"trims in matrix.yaml: {path} has no cubin of another chip; mend or remove it")
    return gone


def carriers() -> dict[Path, set[str]]:
    """Path to the packages that carry it."""
    found: dict[Path, set[str]] = {}
    for info in site_packages().glob("*.dist-info"):
        for path, _digest in record(site_packages(), info):
            found.setdefault(path, set()).add(name_of(info))
    return found


def files_of(package: str) -> tuple[Path, set[Path]]:
    """The dist-info folder of a package, and what of its RECORD is there, but for that folder."""
    for info in site_packages().glob("*.dist-info"):
        if name_of(info) == package:
            listed = {path for path, _digest in record(site_packages(), info)}
            return info, {path for path in listed if path.is_file() and info not in path.parents}
    fail(f"to be trimmed, but not installed: {package}")


def matching(files: set[Path], rule: dict[str, Any]) -> list[Path]:
    """The files that the paths of a trim match; one that matches nothing is a fault of the matrix."""
    found: set[Path] = set()
    for pattern in rule["paths"]:
        whole = os.path.normpath(site_packages() / pattern)
        some = {path for path in files if fnmatch.fnmatchcase(str(path), whole)}
        if not some:
            fail(f"trims in matrix.yaml: {pattern} matches no file of {rule['package']}; mend or remove it")
        found |= some
    return sorted(found)


def link_copies(owners: dict[Path, str]) -> None:
    """Make one file of the copies a package has of it (wheels hold no links: libz3.so is libz3.so.4.15 again)."""
    spared = 0
    for info in sorted(site_packages().glob("*.dist-info")):
        copies: dict[str, list[Path]] = {}
        for path, digest in dict(record(site_packages(), info)).items():
            if digest and path in owners and path.stat().st_size >= LEAST_LINKED_BYTES:
                copies.setdefault(digest, []).append(path)
        for first, *others in (sorted(some) for some in copies.values()):
            for path in others:
                alike = filecmp.cmp(first, path, shallow=False) and first.stat().st_mode == path.stat().st_mode
                if alike and owners[first] == owners[path]:
                    path.unlink()
                    path.hardlink_to(first)
                    spared += first.stat().st_size
    say(f"copies of files made links: {spared / 1e6:.1f} MB")


def rule_of(
    path: Path, carriers: dict[str, str], collisions: list[dict[str, str | None]]
) -> dict[str, str | None] | None:
    """What to do about a colliding path; None when no rule is about it, or its package to keep does not carry it."""
    for rule in collisions:
        if fnmatch.fnmatchcase(str(path), f"{site_packages()}/{rule['path']}"):
            return rule if rule["keep"] is None or rule["keep"] in carriers else None
    return None


def record_digest(path: Path) -> str:
    """A file's digest as RECORD has it: https://packaging.python.org/en/latest/specifications/recording-installed-packages/."""
    digest = hashlib.sha256(path.read_bytes()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def read_claims(layer_of: dict[str, str]) -> dict[Path, list[tuple[str, str]]]:
    """Path to the packages that carry it, each with the digest its RECORD gives."""
    claims: dict[Path, list[tuple[str, str]]] = {}
    found = set()
    for info in sorted(site_packages().glob("*.dist-info")):
        name = name_of(info)
        found.add(name)
        if name not in layer_of:
            fail(f"{info.name} was installed, but layers.json does not name it")
        for path, digest in record(site_packages(), info):
            claims.setdefault(path, []).append((name, digest))
    if missing := sorted(set(layer_of) - found):
        fail(f"not installed: {', '.join(missing)}")
    return claims


def name_of(info: Path) -> str:
    """The normalised name of the distribution whose dist-info folder this is."""
    return re.sub(r"[-_.]+", "-", info.name.removesuffix(".dist-info").rpartition("-")[0]).lower()


def record(site: Path, info: Path) -> Iterator[tuple[Path, str]]:
    with (info / "RECORD").open(encoding="utf-8", newline="") as rows:
        for path, digest, *_size in csv.reader(rows):
            yield Path(os.path.normpath(site / path)), digest


def move(owners: dict[Path, str], output: Path) -> None:
    for path, layer in sorted(owners.items()):
        target = output / layer / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink():
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            path.chmod(mode)
        path.rename(target)


def settle(output: Path, epoch: int) -> None:
    """Give every file and folder one time, so that BuildKit need not pack each layer again to rewrite them."""
    for root, folders, names in os.walk(output, topdown=False):
        for name in names + folders:
            os.utime(Path(root) / name, (epoch, epoch), follow_symlinks=False)
    for layer in output.iterdir():
        os.utime(layer, (epoch, epoch))


def link_cuda(output: Path) -> None:
    """Make a toolkit of the folder in which NVIDIA's packages meet: /usr/local/cuda, lib64, and names for the linker.

    The nvcc of the wheels looks for libraries in lib64 beside itself, and wheels carry libcudart.so.13 but no
    libcudart.so.
    """
    site = site_packages().relative_to("/")
    carriers = [one for one in sorted(output.glob(f"*/{site}/nvidia/cu*")) if (one / "bin/nvcc").exists()]
    if len(carriers) != 1:
        fail(f"expected one folder with bin/nvcc below {site}/nvidia, found {len(carriers)}")
    name = carriers[0].name
    toolkit = output / "skeleton" / site / "nvidia" / name
    (toolkit / "lib").mkdir(parents=True)
    (toolkit / "lib64").symlink_to("lib")
    # The packages that meet in that folder lie in several layers.
    libraries = sorted(one.name for one in output.glob(f"*/{site}/nvidia/{name}/lib/*.so*"))
    for library in libraries:
        plain = re.sub(r"\.so\.[\d.]+$", ".so", library)
        if plain not in libraries and not (toolkit / "lib" / plain).is_symlink():
            (toolkit / "lib" / plain).symlink_to(library)
    link = output / "skeleton/usr/local/cuda"
    link.parent.mkdir(parents=True)
    link.symlink_to(f"/{site}/nvidia/{name}")


def make_folders(skeleton: Path) -> None:
    """Folders that images have: for work, and one for all caches, which any user may write to.

    Where people are used to mount root's cache, a link leads there; the engine follows it.
    """
    (skeleton / "workspace").mkdir()
    (skeleton / "cache").mkdir()
    (skeleton / "cache").chmod(0o1777)
    (skeleton / "root").mkdir()
    (skeleton / "root").chmod(0o700)  # as the base has it: a layer's folder counts for the image's
    (skeleton / "root/.cache").symlink_to("/cache")


def add_runtime(source: Path, target: Path) -> None:
    """What images do by themselves when they run; a file that says its interpreter can be executed."""
    for path in sorted(one for one in source.rglob("*") if one.is_file()):
        content = path.read_bytes()
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
        copy.chmod(0o755 if content.startswith(b"#!") else 0o644)


def describe(manifest: Path, output: Path) -> None:
    """Put the manifest into a layer of its own, beside a list of all files that stand in no package's RECORD."""
    ours, notes = (output / "skeleton", output / "runtime"), (TRIMMED, PRUNED)
    own = [path for path in files_below(output) if path.name in notes or any(map(path.is_relative_to, ours))]
    found = {"/".join(path.relative_to(output).parts[1:]): content_of(path) for path in own}
    place = output / "manifest/usr/share/sparkbake"
    place.mkdir(parents=True)
    (place / "files.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copyfile(manifest, place / "manifest.json")


def content_of(path: Path) -> str:
    """A file's digest, "sha256:" + 64 hex digits; "link:<target>" of a symbolic link."""
    if path.is_symlink():
        return f"link:{path.readlink()}"
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


if __name__ == "__main__":
    main()
