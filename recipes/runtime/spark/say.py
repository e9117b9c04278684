"""What containers of ours say: one line, on standard error, so that the output of a command stays its own."""

import re
import sys
from collections.abc import Mapping, Sequence

USAGE = 2
FAILED = 1

# Arguments of vLLM and Ray whose values are secrets.
_SECRET_OPTIONS = ("--api-key", "--hf-token", "--ssl-keyfile-password", "--redis-password")
_SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_API_KEY")
# An option of its own, though it begins one of the others.
_PLAIN_OPTIONS = ("--ssl-keyfile",)
_SAYS_SO = r"(?:authorization|api[-_]?key|token|password|secret)"
_HIDDEN = "***"
# Texts that name a secret themselves; what follows the first group is hidden, up to the second.
_SAID = tuple(
    re.compile(text, re.IGNORECASE)
    for text in (
        rf'("[^"]*{_SAYS_SO}"\s*:\s*")(?:[^"\\]|\\.)*(")',
        r"(\bauthorization\s*[:=]\s*)(?:(?:bearer|basic|token)\s+)?[^\s\"'*]+()",
        r"(\bbearer\s+)[\w.~+/=-]{8,}()",
        r"()hf_[A-Za-z0-9]{20,}()",
    )
)


class SparkError(Exception):
    """Something that ends a command: the message says what was found, what is expected and what to do.

    Attributes:
        status: what the container ends with.
    """

    def __init__(self, message: str, status: int = USAGE) -> None:
        self.status = status
        super().__init__(message)


def say(text: str) -> None:
    print(f"spark: {text}", file=sys.stderr, flush=True)


def without_secrets(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """A command line as it may be shown: no token or key, wherever it stands."""
    shown: list[str] = []
    hide_all = False
    for word in words:
        option, equals, _value = word.partition("=")
        is_secret = _is_secret(option_name(option))
        # --api-key takes several values: all up to the next option.
        hide_all = is_secret if word.startswith("-") else hide_all
        if is_secret:
            shown.append(f"{option}={_HIDDEN}" if equals else word)
        else:
            shown.append(_HIDDEN if hide_all else masked(word, environment))
    return shown


def _is_secret(name: str) -> bool:
    """Whether an option's value is a secret: argparse takes the beginning of a name, and a.b for a key of JSON."""
    if not name.startswith("--") or name in _PLAIN_OPTIONS:
        return False
    begins_one = len(name) > len("--") and any(one.startswith(name) for one in _SECRET_OPTIONS)
    return begins_one or ("." in name and re.search(rf"{_SAYS_SO}$", name) is not None)


def option_name(word: str) -> str:
    """An option as its documentation spells it: vLLM takes `_` for `-` in those with two dashes."""
    return word.replace("_", "-") if word.startswith("--") else word


def masked(text: str, environment: Mapping[str, str]) -> str:
    """A text without the tokens and keys that variables hold, and without what names itself one."""
    secrets = {environment[name] for name in _SECRET_VARIABLES if environment.get(name)}
    # The longest first: one may be the beginning of another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    for pattern in _SAID:
        text = pattern.sub(rf"\g<1>{_HIDDEN}\g<2>", text)
    return text
