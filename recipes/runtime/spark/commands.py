"""The words that a container of ours understands by itself.

Each loads what it needs as it runs: Docker asks for `health` every half minute, and a Spark has other things to do.
"""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from spark import child
from spark.say import FAILED, SparkError, masked, say, without_secrets

HELP = """\
docker run [OPTIONS] IMAGE COMMAND ...

Any command runs as it is: vllm serve MODEL, python3 SCRIPT, bash. These are the image's own:

  serve [MODEL] [OPTIONS]       vllm serve, from MODEL, HOST, PORT, TENSOR_PARALLEL_SIZE, MAX_MODEL_LEN,
                                GPU_MEMORY_UTIL, MAX_NUM_SEQS, KV_CACHE_DTYPE, SERVED_MODEL_NAME and VLLM_EXTRA_ARGS
  serve --dry-run ...           print that command and start nothing
  ray-head [OPTIONS]            the head of a Ray cluster (RAY_PORT, NODE_IP); options go to `ray start`
  ray-worker ADDRESS [OPTIONS]  a node that joins it (RAY_WAIT_S, NODE_IP)
  cluster [COMMAND ...]         run a command with the network settings of a node; without one, print them
  info [--json]                 versions of the image, and what the machine offers
  doctor [--json] [--port N]    what the machine lacks, and the command that mends it
  selftest [--output FILE]      compute something on the GPU with each component, and compare; JSON
  health                        whether the server answers (Docker asks this by itself)
"""
_SELFTEST = Path(__file__).parents[1] / "selftest"
_TEMPORARY = "/tmp"  # noqa: S108  (all that a read-only root leaves)
_VENV_PYTHON = "/opt/venv/bin/python"


def main(words: Sequence[str]) -> int:
    """Run one of the image's own commands, and return the exit status."""
    try:
        return _run(words[0] if words else "help", list(words[1:]), dict(os.environ))
    except SparkError as err:
        say(f"error: {masked(str(err), os.environ)}")
        return err.status


def _run(name: str, words: list[str], environment: Mapping[str, str]) -> int:
    commands = {
        "serve": _serve,
        "ray-head": _ray_head,
        "ray-worker": _ray_worker,
        "cluster": _cluster,
        "info": _info,
        "doctor": _doctor,
        "selftest": _selftest,
        "health": _health,
    }
    command = commands.get(name)
    if command is None:
        print(HELP, end="")
        return 0
    return command(words, environment)


def _ray_head(words: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    from spark import rays  # noqa: PLC0415

    rays.head(words, _home(environment))


def _ray_worker(words: Sequence[str], environment: Mapping[str, str]) -> int:
    from spark import rays  # noqa: PLC0415

    if os.getpid() == 1:
        # As process 1 this one collects orphans, and the worker is its child.
        folder = str(Path(__file__).parents[1])
        child.replace_by([sys.executable, "-I", "-S", "-B", folder, "ray-worker", *words], environment)
    return rays.worker(words, _home(environment))


def _cluster(words: Sequence[str], environment: Mapping[str, str]) -> int:
    from spark.network import settle  # noqa: PLC0415

    settled = settle(None, environment)
    if words:
        child.replace_by(words, settled)
    print("\n".join(f"export {key}={shlex.quote(settled[key])}" for key in settled if key not in environment))
    return 0


def _selftest(words: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    child.replace_by([_VENV_PYTHON, "-B", str(_SELFTEST), *words], _home(environment))


def _health(words: Sequence[str], environment: Mapping[str, str]) -> int:
    from spark.health import health  # noqa: PLC0415

    if words:
        raise SparkError(f"health: {' '.join(words)}: expected nothing")
    is_well, why = health(environment)
    print(why)
    return 0 if is_well else FAILED


def _serve(words: Sequence[str], environment: Mapping[str, str]) -> int:
    from spark.limits import check_model  # noqa: PLC0415
    from spark.serve import check_place, command_line  # noqa: PLC0415

    is_dry = "--dry-run" in words
    command = command_line([one for one in words if one != "--dry-run"], environment)
    check_model(command, environment)
    check_place(command, settled=is_dry)
    shown = shlex.join(without_secrets(command, environment))
    if is_dry:
        print(shown)
        return 0
    settled = _home(environment)
    if _nodes(command) or environment.get("RAY_ADDRESS"):
        from spark.network import settle  # noqa: PLC0415

        settled = settle(None, settled)
    say(shown)
    return child.replace_by(command, settled)


def _nodes(command: Sequence[str]) -> bool:
    """Whether a model is split over several GPUs, of which a Spark has one."""
    from spark.serve import from_file, option_of  # noqa: PLC0415

    sizes = (
        option_of(command, f"--{name}-parallel-size", short) or from_file(command, f"{name}-parallel-size")
        for name, short in (("tensor", "-tp"), ("pipeline", "-pp"), ("data", "-dp"))
    )
    return any(size not in {None, "1"} for size in sizes)


def _doctor(words: Sequence[str], environment: Mapping[str, str]) -> int:
    from spark.diagnosis import doctor  # noqa: PLC0415

    return doctor(words, environment)


def _info(words: Sequence[str], environment: Mapping[str, str]) -> int:
    from spark.info import info, lines  # noqa: PLC0415

    if list(words) not in ([], ["--json"]):
        raise SparkError(f"info: {' '.join(words)}: expected nothing, or --json")
    found = info(environment)
    print(json.dumps(found, indent=2) if words else "\n".join(lines(found)))
    return 0


def _home(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with a home that this user may write, and a name: `--user` brings neither."""
    settled = dict(environment)
    home = settled.get("HOME", "")
    if not home or not os.access(home, os.W_OK | os.X_OK):
        # Not a read-only root's, without `--tmpfs`: what would run needs it, too.
        if not os.access(_TEMPORARY, os.W_OK | os.X_OK):
            raise SparkError(
                f"neither HOME ({home or 'none'}) nor {_TEMPORARY} can be written by user {os.getuid()}; start the "
                f"container with --tmpfs {_TEMPORARY}"
            )
        settled["HOME"] = _TEMPORARY
        say(f"HOME={_TEMPORARY} ({home or 'none'} cannot be written by user {os.getuid()})")
    if not settled.get("USER"):
        settled["USER"] = "root" if os.getuid() == 0 else "spark"
    return settled
