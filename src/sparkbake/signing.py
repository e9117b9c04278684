"""Sign what a registry has, and see whether it is signed: cosign, with a key or as who a workflow is.

cosign 3 keeps a signature as a bundle that refers to what it is about, in the same repository:
https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparkbake import process
from sparkbake.errors import ProcessError, UsageError
from sparkbake.tables import say

_TIMEOUT_S = 300
# Of cosign, where there is no signature at all, or none that the certificate fits: its cmd/cosign/errors.
_NOT_SIGNED = (10, 12)
_NOT_OURS = ("no matching signatures", "no matching attestations")
# How a key in memory reaches cosign, without a file.
_PUBLIC = "SPARKBAKE_PUBLIC_KEY"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signer:
    """Who signs.

    Attributes:
        key: a file, or env://VARIABLE; None of who signs without one.
        public: its other half, PEM; None without a key.
    """

    key: str | None
    public: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """Whose signature counts: that of a key, or of who a certificate names.

    Attributes:
        key: a file with a public key, or env://VARIABLE.
        identity: of a certificate: address of a workflow, or of a mailbox.
        issuer: who says that it is that one.
    """

    key: str | None = None
    identity: str | None = None
    issuer: str | None = None

    @property
    def words(self) -> list[str]:
        """For cosign; with a key nothing is looked up in a log, since `publish` writes nothing into one then."""
        if self.key is not None:
            return ["--key", self.key, "--insecure-ignore-tlog=true"]
        issuer = (
            ["--certificate-oidc-issuer", self.issuer] if self.issuer else ["--certificate-oidc-issuer-regexp", "."]
        )
        return ["--certificate-identity", self.identity or "", *issuer]


def signer_of(key: str | None, *, keyless: bool, unsigned: bool) -> Signer | None:
    """Who is to sign; None when nobody is. A key is opened: a wrong password shows before anything is sent.

    Raises:
        UsageError: nothing or more than one thing is said of it.
        ProcessError: there is no cosign, or it cannot use the key.
    """
    if sum((key is not None, keyless, unsigned)) != 1:
        raise UsageError(
            "publish: expected one of --sign-key FILE (or env://VARIABLE), --keyless (in a workflow that may have an "
            "identity token), --no-sign (whoever pulls the images cannot tell who published them)"
        )
    if unsigned:
        return None
    if key is None:
        _cosign("version")
        return Signer(key=None, public=None)
    _password_of(key, os.environ)
    return Signer(key=key, public=_cosign("public-key", "--key", key))


def _password_of(key: str, environment: Mapping[str, str]) -> None:
    """See that cosign need not ask for a password: nobody would see the question."""
    if "COSIGN_PASSWORD" not in environment:
        raise UsageError(f"--sign-key {key}: set COSIGN_PASSWORD to the password of the key, empty if it has none")


# ---- asking and signing


def is_signed(signer: Signer, reference: str) -> bool:
    """Whether this signer has signed what is there already.

    Without a key that is known only in a workflow, whose address is in its certificates.

    Args:
        reference: "<registry>/<name>@<digest>".

    Raises:
        ProcessError: it cannot be known: the registry or the transparency log does not answer.
    """
    if signer.public is not None:
        return why_not(Trust(key=f"env://{_PUBLIC}"), reference, env={_PUBLIC: signer.public}) is None
    server, workflow = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_WORKFLOW_REF")
    return bool(server and workflow) and why_not(Trust(identity=f"{server}/{workflow}"), reference) is None


def why_not(trust: Trust, reference: str, *, env: Mapping[str, str] | None = None) -> str | None:
    """Why what is there does not count as signed; None when it does.

    Args:
        reference: as `is_signed` has it.

    Raises:
        ProcessError: as of `is_signed`.
    """
    try:
        _cosign("verify", *trust.words, reference, env=env)
    except ProcessError as err:
        if err.returncode == _NOT_SIGNED[0]:
            return "it has no signature"
        if err.returncode in _NOT_SIGNED or any(one in err.output for one in _NOT_OURS):
            return "its signatures are by others"
        raise
    return None


def sign(signer: Signer, reference: str) -> None:
    """Sign an index and all that is in it.

    Raises:
        ProcessError: cosign could not.
    """
    say(f"signing {reference}")
    if signer.key is None:
        # What it says of the log, and of an address where to confirm who one is, has to be seen as it comes.
        status = process.stream(
            ["cosign", "sign", "--recursive", "--yes", reference], lambda line: say(f"cosign: {line}")
        )
        if status:
            raise ProcessError(f"cosign sign {reference}: exit status {status}; see above", returncode=status)
        return
    with tempfile.TemporaryDirectory(prefix="sparkbake-") as folder:
        # Names no log and no clock: then cosign asks nobody outside for anything.
        config = Path(folder, "signing-config.json")
        config.write_text(_cosign("signing-config", "create"), encoding="utf-8")
        _cosign("sign", "--key", signer.key, "--signing-config", str(config), "--recursive", "--yes", reference)


def _cosign(*words: str, env: Mapping[str, str] | None = None) -> str:
    try:
        return process.run(["cosign", *words], timeout_s=_TIMEOUT_S, env=env)
    except ProcessError as err:
        raise ProcessError(f"{err}{_hint(err)}", returncode=err.returncode, output=err.output) from err


def _hint(err: ProcessError) -> str:
    if err.returncode is None:
        return "; tools/engine.sh --cosign installs cosign on Debian"
    if "unknown command" in err.output:
        return "; this cosign is too old, install version 3 or newer"
    if "decryption failed" in err.output:
        return "; COSIGN_PASSWORD is not the password of this key"
    return ""
