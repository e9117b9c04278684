"""Claims about how cosign is called and what its answers mean; tests/engine has the real one."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sparkbake import process
from sparkbake.errors import ProcessError, UsageError
from sparkbake.signing import Signer, Trust, is_signed, sign, signer_of, why_not

REFERENCE = "registry.example/sparks/spark-vllm@sha256:" + 64 * "a"
KEY = Signer(key="cosign.key", public="PUBLIC")
KEYLESS = Signer(key=None, public=None)
WORKFLOW = {"GITHUB_SERVER_URL": "https://git.example", "GITHUB_WORKFLOW_REF": "o/r/.w/p.yml@refs/heads/main"}


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*WORKFLOW, "COSIGN_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cosign(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Let cosign answer each call alike; what it was called with."""

    def answers(answer: str | ProcessError = "") -> list[list[str]]:
        asked: list[list[str]] = []

        def run(argv: Sequence[str | Path], **_rest: Any) -> str:
            asked.append([str(one) for one in argv])
            if isinstance(answer, ProcessError):
                raise answer
            return answer

        monkeypatch.setattr(process, "run", run)
        return asked

    return answers


def failed(returncode: int | None, output: str = "") -> ProcessError:
    return ProcessError(f"cosign: exit status {returncode}\n{output}", returncode=returncode, output=output)


# ---- who signs


def test_a_key_is_opened_before_anything_is_sent(
    cosign: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "secret")
    asked = cosign("PUBLIC")
    assert signer_of("cosign.key", keyless=False, unsigned=False) == KEY
    assert asked == [["cosign", "public-key", "--key", "cosign.key"]]


def test_a_key_without_its_password_is_refused(cosign: Callable[..., list[list[str]]]) -> None:
    asked = cosign("PUBLIC")
    with pytest.raises(UsageError, match="--sign-key env://KEY: set COSIGN_PASSWORD to the password of the key, empty"):
        signer_of("env://KEY", keyless=False, unsigned=False)
    assert asked == []


def test_without_a_key_it_is_seen_that_cosign_is_there(cosign: Callable[..., list[list[str]]]) -> None:
    asked = cosign()
    assert signer_of(None, keyless=True, unsigned=False) == KEYLESS
    assert asked == [["cosign", "version"]]
    assert signer_of(None, keyless=False, unsigned=True) is None


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (failed(None), "; tools/engine.sh --cosign installs cosign on Debian"),
        (failed(1, 'Error: unknown command "signing-config"'), "; this cosign is too old, install version 3 or newer"),
        (failed(1, "decrypt: encrypted: decryption failed"), "; COSIGN_PASSWORD is not the password of this key"),
        (failed(1, "open cosign.key: no such file or directory"), "no such file or directory"),
    ],
)
def test_what_keeps_a_key_from_signing_is_said(
    cosign: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch, error: ProcessError, hint: str
) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    cosign(error)
    with pytest.raises(ProcessError) as caught:
        signer_of("cosign.key", keyless=False, unsigned=False)
    assert str(caught.value).endswith(hint)


# ---- whether it is signed


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (failed(10, "no signatures found"), "it has no signature"),
        (failed(12, "no matching signatures"), "its signatures are by others"),
        (failed(1, "no matching attestations: failed to verify signature"), "its signatures are by others"),
        ("[]", None),
    ],
)
def test_what_cosign_says_of_a_signature(
    cosign: Callable[..., list[list[str]]], error: ProcessError | str, why: str | None
) -> None:
    cosign(error)
    assert why_not(Trust(key="cosign.pub"), REFERENCE) == why
    assert is_signed(KEY, REFERENCE) is (why is None)


def test_a_registry_that_does_not_answer_does_not_mean_unsigned(cosign: Callable[..., list[list[str]]]) -> None:
    """Else each such hour would leave one more signature."""
    cosign(failed(1, "connection refused"))
    with pytest.raises(ProcessError, match="connection refused"):
        is_signed(KEY, REFERENCE)


def test_who_checks_is_told_how_to_get_cosign_too(cosign: Callable[..., list[list[str]]]) -> None:
    cosign(failed(None))
    with pytest.raises(ProcessError, match=r"tools/engine\.sh --cosign installs cosign"):
        why_not(Trust(key="cosign.pub"), REFERENCE)


def test_a_workflow_looks_for_its_own_signature(
    cosign: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = cosign("[]")
    assert not is_signed(KEYLESS, REFERENCE), "who this is cannot be known outside of a workflow"
    assert asked == []
    for name, value in WORKFLOW.items():
        monkeypatch.setenv(name, value)
    assert is_signed(KEYLESS, REFERENCE)
    identity = "https://git.example/o/r/.w/p.yml@refs/heads/main"
    assert asked == [
        ["cosign", "verify", "--certificate-identity", identity, "--certificate-oidc-issuer-regexp", ".", REFERENCE]
    ]


def test_an_identity_counts_only_from_its_issuer(cosign: Callable[..., list[list[str]]]) -> None:
    asked = cosign("[]")
    assert why_not(Trust(identity="me", issuer="https://login.example"), REFERENCE) is None
    assert asked[0][2:] == [
        "--certificate-identity", "me", "--certificate-oidc-issuer", "https://login.example", REFERENCE
    ]  # fmt: skip


# ---- signing


def test_signing_without_a_key_shows_what_cosign_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses = iter([0, 1])

    def stream(argv: Sequence[str], on_line: Callable[[str], None], **_rest: Mapping[str, Any]) -> int:
        assert argv == ["cosign", "sign", "--recursive", "--yes", REFERENCE]
        on_line("Enter the verification code")
        return next(statuses)

    monkeypatch.setattr(process, "stream", stream)
    sign(KEYLESS, REFERENCE)
    assert "sparkbake: cosign: Enter the verification code" in capsys.readouterr().err
    with pytest.raises(ProcessError, match="exit status 1; see above"):
        sign(KEYLESS, REFERENCE)
