"""Make the command line of `vllm serve` of variables, and refuse what cannot work before anything is loaded."""

import errno
import re
import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spark.say import SparkError, masked, option_name, without_secrets

DEFAULT_PORT = 8000
EXTRA = "VLLM_EXTRA_ARGS"
CONFIG = "--config"
_LAST_PORT = 65535
# `CacheDType` of every release in the matrix; a release that lacks one of them says so itself, at once.
KV_CACHE_DTYPES = (
    "auto", "bfloat16", "float16", "fp8", "fp8_ds_mla", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "fp8_per_token_head",
    "int4_per_token_head", "int8_per_token_head", "nvfp4", "nvfp4_4over6", "nvfp4_ds_mla", "turboquant_3bit_nc",
    "turboquant_4bit_nc", "turboquant_k3v4_nc", "turboquant_k8v4", "ultraquant_4bit",
)  # fmt: skip
_PORT_EXPECTED = f"a port from 1 to {_LAST_PORT}"


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable, and the option of `vllm serve` that it becomes.

    Attributes:
        short: another spelling of the option.
        read: its value as the option takes it; None when it cannot be one.
    """

    variable: str
    option: str
    short: str
    expected: str
    read: Callable[[str], str | None]


def _whole(least: int, most: int = 10**9) -> Callable[[str], str | None]:
    def read(text: str) -> str | None:
        return text if re.fullmatch(r"\d{1,10}", text) and least <= int(text) <= most else None

    return read


def _length(text: str) -> str | None:
    """As vLLM reads it: a number, one with a unit (1.5k is 1500, 1K is 1024), -1 or auto for what fits."""
    if text in {"-1", "auto"}:
        return text
    return text if re.fullmatch(r"[1-9]\d*([kKmMgG]|\.\d+[kmg])?", text) else None


def _share(text: str) -> str | None:
    return text if re.fullmatch(r"0?\.\d+|1(\.0+)?", text) and float(text) > 0 else None


def _dtype(text: str) -> str | None:
    return text if text in KV_CACHE_DTYPES else None


def _any(text: str) -> str | None:
    return text if text and text.strip() == text and not text.startswith("-") else None


SETTINGS = (
    Setting("HOST", "--host", "", "an address or a name of this machine", _any),
    Setting("PORT", "--port", "", _PORT_EXPECTED, _whole(1, _LAST_PORT)),
    Setting("TENSOR_PARALLEL_SIZE", "--tensor-parallel-size", "-tp", "a number of GPUs from 1", _whole(1, 1024)),
    Setting("MAX_MODEL_LEN", "--max-model-len", "", "a number of tokens (65536, 64k), or auto", _length),
    Setting("GPU_MEMORY_UTIL", "--gpu-memory-utilization", "", "a share of the memory above 0, up to 1", _share),
    Setting("MAX_NUM_SEQS", "--max-num-seqs", "", "a number of requests from 1", _whole(1)),
    Setting("KV_CACHE_DTYPE", "--kv-cache-dtype", "", f"one of {', '.join(KV_CACHE_DTYPES)}", _dtype),
    Setting("SERVED_MODEL_NAME", "--served-model-name", "", "a name", _any),
)


def command_line(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command that `serve` runs.

    Args:
        words: after `serve`: a model, if neither MODEL nor a file of `--config` names one, and more options of
            `vllm serve`.

    Raises:
        SparkError: no model, or two; a value that is none; an option that is said twice.
    """
    given, named = list(words), environment.get("MODEL", "")
    word = given.pop(0) if given and not given[0].startswith("-") else None
    extra = _file_apart([*_extra(environment), *given])
    model = _model(named, word, extra)
    options: list[str] = []
    for setting in SETTINGS:
        text = environment.get(setting.variable, "")
        if not text:
            continue
        value = setting.read(text)
        if value is None:
            raise SparkError(f"serve: {setting.variable} is {text!r}, expected {setting.expected}")
        if twice := _said(setting, extra):
            raise SparkError(f"serve: {setting.variable} is set, and {twice} is given, too; say it once")
        options += [setting.option, value]
    port = option_of(extra, "--port")
    if port is not None and not _is_port(port):
        raise SparkError(f"serve: --port is {port!r}, expected {_PORT_EXPECTED}")
    return ["vllm", "serve", *model, *options, *extra]


def _model(named: str, word: str | None, extra: Sequence[str]) -> list[str]:
    """The model as a word of the command; none where a file of `--config` names it."""
    for where, text in (("MODEL", named or None), ("the model", word)):
        if text is not None and _any(text) is None:
            raise SparkError(f"serve: {where} is {text!r}, expected a name such as Qwen/Qwen3-1.7B, or a folder")
    # Beside a model vLLM would leave this out without a word.
    if (other := option_of(extra, "--model")) is not None:
        raise SparkError(f"serve: --model is given; say the model as MODEL, or first: serve {other}")
    if named and word and named != word:
        raise SparkError(f"serve: MODEL is {named}, and the command says {word}; say one of them")
    if model := word or named:
        return [model]
    if CONFIG not in extra:
        raise SparkError("serve: no model; expected -e MODEL=Qwen/Qwen3-1.7B, or: serve Qwen/Qwen3-1.7B")
    return []


def _extra(environment: Mapping[str, str]) -> list[str]:
    text = environment.get(EXTRA, "")
    try:
        return shlex.split(text)
    except ValueError as err:
        shown = masked(" ".join(without_secrets(text.split(), environment)), environment)
        raise SparkError(
            f"serve: {EXTRA} is {shown!r}: {err}; expected options quoted as in a shell: --foo '{{\"a\": 1}}'"
        ) from err


def _file_apart(words: Sequence[str]) -> list[str]:
    """`--config=FILE` as two words: vLLM looks for the one word `--config` and would leave the file unread."""
    apart: list[str] = []
    for word in words:
        name, equals, file = word.partition("=")
        apart += [name, file] if name == CONFIG and equals else [word]
    return apart


def _said(setting: Setting, words: Sequence[str]) -> str:
    """The word that says what a setting says, too; empty when there is none."""
    for word in words:
        name = word.partition("=")[0]
        if name and option_name(name) in {setting.option, setting.short}:
            return name
    return ""


def option_of(command: Sequence[str], *names: str) -> str | None:
    """The value of an option in a command line, of the last if it is said twice; None when it is not there."""
    found = None
    for place, word in enumerate(command):
        name, equals, value = word.partition("=")
        if option_name(name) in names:
            found = value if equals else next(iter(command[place + 1 :]), None)
    return found


def from_file(command: Sequence[str], name: str, folder: Path = Path()) -> str | None:
    """What the file of `--config` says of an option; None when it says nothing, or there is none.

    Args:
        name: without dashes before it; the file is YAML, with a line for each option.
        folder: that a relative path of the file begins at.
    """
    path = option_of(command, CONFIG)
    try:
        text = (folder / path).read_text(encoding="utf-8") if path else ""
    except (OSError, UnicodeError):
        return None
    for key, value in re.findall(r"^([\w-]+):[ \t]+(.+?)[ \t]*(?:#.*)?$", text, re.MULTILINE):
        if key.replace("_", "-") == name:
            return str(value).strip("'\"")
    return None


def check_place(command: Sequence[str], *, devices: Path = Path("/dev"), settled: bool = False) -> None:
    """Refuse what this container cannot do: a folder or file that is not there, a port in use, too few GPUs.

    Args:
        settled: leave out what is only so just now, a port in use and a GPU that is lacking: for a dry run.

    Raises:
        SparkError: with what to do.
    """
    model = next((one for one in command[2:3] if not one.startswith("-")), "")
    if model.startswith(("/", "./", "../")) and not Path(model).exists():
        raise SparkError(f"serve: {model} is not in this container; mount it: -v /path/on/host:{model}:ro")
    config = option_of(command, CONFIG)
    if config is not None and not Path(config).is_file():
        raise SparkError(f"serve: {CONFIG} {config} is not in this container; mount it: -v /path/on/host:{config}:ro")
    if config is not None and not model and from_file(command, "model") is None:
        raise SparkError(f"serve: no model, neither in MODEL nor in {config}; expected a line there: model: NAME")
    if settled:
        return
    if not (devices / "nvidiactl").exists():
        raise SparkError(
            "serve: no GPU in this container; start it with --gpus all; `nox -s doctor` on the host says what it lacks"
        )
    if config is None:
        _check_gpus(command, len(list(devices.glob("nvidia[0-9]*"))))
    # A node without a server, or one that listens at a file, takes no port.
    if "--headless" in command or option_of(command, "--uds") or from_file(command, "uds"):
        return
    port = option_of(command, "--port") or from_file(command, "port") or str(DEFAULT_PORT)
    if not _is_port(port):
        raise SparkError(f"serve: --port is {port!r}, expected {_PORT_EXPECTED}")
    check_port(option_of(command, "--host") or from_file(command, "host") or "", int(port))


def _is_port(text: str) -> bool:
    return _whole(1, _LAST_PORT)(text) is not None


def _check_gpus(command: Sequence[str], here: int) -> None:
    """Refuse a model over more GPUs than this node has, unless others have the rest."""
    backend = option_of(command, "--distributed-executor-backend")
    if not here or backend not in {None, "mp"} or option_of(command, "--nnodes", "-n") not in {None, "1"}:
        return
    wanted = 1
    for names in (("--tensor-parallel-size", "-tp"), ("--pipeline-parallel-size", "-pp")):
        size = option_of(command, *names) or "1"
        wanted *= int(size) if size.isdecimal() else 1
    if wanted > here:
        raise SparkError(
            f"serve: a model over {wanted} GPUs, and {here} here; over several Sparks add "
            f"--distributed-executor-backend ray to {EXTRA}, in the container of `ray-head`; or --nnodes"
        )


def check_port(host: str, port: int) -> None:
    """Refuse a port that something listens on, or an address that is not of this machine.

    Raises:
        SparkError: with the port.
    """
    try:
        # Without a host vLLM takes all addresses of IPv4.
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host or "0.0.0.0",  # noqa: S104
            port,
            type=socket.SOCK_STREAM,
        )[0]
        with socket.socket(family, kind, protocol) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
    except UnicodeError as err:
        raise SparkError(f"serve: {host!r} is no name of a host; see HOST") from err
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            raise SparkError(
                f"serve: port {port} is in use; set PORT to another, or end what listens: ss -ltnp"
            ) from err
        raise SparkError(f"serve: cannot listen at {host or '*'}:{port}: {err.strerror}; see HOST and PORT") from err
