"""Read of an image the tuned configs that vLLM finds in it, and what else says whether it opens one."""

import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sparkbake.delta import group_of_layer, layer_names
from sparkbake.errors import UsageError
from sparkbake.images import OpenImage
from sparkbake.model import Pairs
from sparkbake.moe import is_shipped
from sparkbake.runtime import MOE_CONFIGS, RUNTIME_LAYER

# Where vLLM looks before its own folder.
_FOLDER = "VLLM_TUNED_CONFIG_FOLDER"
_VERSION = re.compile(r"(?:.*/)?vllm-([^-/]+)\.dist-info/METADATA")
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigFile:
    """A tuned config of an image.

    Attributes:
        sha256: 64 hex digits.
    """

    path: str
    layer_name: str
    sha256: str
    text: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Configs:
    """What vLLM finds in an image.

    Attributes:
        digest: of the manifest.
        version: of vLLM.
        environment: of the image.
        folder: where vLLM looks first, without a leading "/"; None when the image does not say.
        shipped: the folder with the configs that vLLM brings.
        files: of both folders, by path.
    """

    image: str
    digest: str
    version: str
    environment: Pairs
    folder: str | None
    shipped: str
    files: tuple[ConfigFile, ...]


def read_configs(image: OpenImage, name: str, tell: Callable[[str], None]) -> Configs:
    """Read the configs of an image: those two layers alone, of an image of ours that names no folder but ours.

    Args:
        name: of the image, for messages.
        tell: told of each layer that is read.

    Raises:
        UsageError: the image has no vLLM.
        ImageError: a layer is damaged.
    """
    environment = _environment(image.info.config)
    folder = posixpath.normpath(environment[_FOLDER]).strip("/") if environment.get(_FOLDER) else None
    names = layer_names(image.info)
    ours = [one for one in image.info.layers if group_of_layer(names[one.digest]) == "vllm"]
    added = [one for one in image.info.layers if names[one.digest] == RUNTIME_LAYER]
    is_ours = ours and (folder is None or (added and folder == str(MOE_CONFIGS)))
    files: dict[str, ConfigFile] = {}
    version = shipped = ""
    for layer in (*ours, *added) if is_ours else image.info.layers:
        tell(f"reading layer {names[layer.digest]} of {name} ({layer.size_bytes / 1e6:.0f} MB)")
        here: dict[str, ConfigFile] = {}
        for entry, chunks in image.contents(layer):
            gone = _hidden(entry.path)
            if gone is not None:
                files = {path: one for path, one in files.items() if not f"{path}/".startswith(f"{gone}/")}
            elif found := _VERSION.fullmatch(entry.path):
                version, shipped = found[1], posixpath.dirname(posixpath.dirname(entry.path))
            elif entry.kind == "file" and _is_config(entry.path, folder):
                here[entry.path] = _config_file(entry.path, names[layer.digest], b"".join(chunks))
        files |= here
    if not version:
        raise UsageError(f"{name}: has no vLLM: no vllm-<version>.dist-info was found in its layers")
    return Configs(
        image=name,
        digest=image.info.digest,
        version=version,
        environment=tuple(sorted(environment.items())),
        folder=folder,
        shipped=posixpath.join(shipped, "vllm/model_executor/layers/fused_moe/configs"),
        files=tuple(files[path] for path in sorted(files)),
    )


def _environment(config: str) -> dict[str, str]:
    settings: Iterable[str] = (json.loads(config).get("config") or {}).get("Env") or ()
    return {name: value for name, _equals, value in (one.partition("=") for one in settings)}


def _is_config(path: str, folder: str | None) -> bool:
    return is_shipped(path) or (posixpath.dirname(path) == folder and path.endswith(".json"))


def _hidden(path: str) -> str | None:
    """What a whiteout removes of the layers below; None of any other entry."""
    parent, base = posixpath.split(path)
    if not base.startswith(_WHITEOUT):
        return None
    return parent if base == _OPAQUE else posixpath.join(parent, base.removeprefix(_WHITEOUT))


def _config_file(path: str, layer_name: str, text: bytes) -> ConfigFile:
    return ConfigFile(path=path, layer_name=layer_name, sha256=hashlib.sha256(text).hexdigest(), text=text)
