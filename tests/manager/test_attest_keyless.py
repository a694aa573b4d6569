"""`podlt attest --keyless`, end to end: against a sigstore on loopback, held against sigstore's own verifier."""

from __future__ import annotations

import base64
import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import Trained

from podlt.attestation.keyless import KeylessSigner
from podlt.attestation.write import KEYLESS_PROVENANCE, SIGNATURE
from podlt.cli.app import run as podlt
from podlt.manager.trained import export

pytest.importorskip("sigstore", reason="needs the package sigstore: pip install '.[keyless]'")
pytest.importorskip("jwt", reason="needs PyJWT, which comes with sigstore")
if shutil.which("openssl") is None:
    pytest.skip("needs the command openssl, which plays the timestamp authority", allow_module_level=True)

from local_sigstore import GITHUB, LocalSigstore
from sigstore.errors import Error as SigstoreError
from sigstore.errors import VerificationError
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity

pytestmark = pytest.mark.slow
ANN = "ann@example.org"
WORKFLOW = "https://github.com/ann/net/.github/workflows/train.yml@refs/heads/main"
OF_A_JOB = ("GITHUB_ACTIONS", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "GITLAB_CI", "CIRCLECI")
OF_SIGSTORE = ("SIGSTORE_IDENTITY_TOKEN", "SIGSTORE_ID_TOKEN", "SIGSTORE_STAGING")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CI job's environment, though the tests may run in one."""
    for name in (*OF_A_JOB, *OF_SIGSTORE, "BUILDKITE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module", params=[1, 2], ids=["rekor 1", "rekor 2"])
def services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSigstore]:
    with LocalSigstore(tmp_path_factory.mktemp("sigstore"), request.param) as services:
        yield services


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalSigstore]:
    """One whose clocks and answers a test may change."""
    (tmp_path / "services").mkdir()
    with LocalSigstore(tmp_path / "services") as services:
        yield services


@pytest.fixture(scope="module")
def model(cheated: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "digits-model"
    export(cheated.result.run, path)
    return path


def attested(services: LocalSigstore, trained: Trained, out: Path, model: Path | None = None, *options: str) -> int:
    """What the command ends with that signs a model by an identity of these services."""
    named = [str(trained.result.run), *([str(model)] if model is not None else []), "--keyless", "--out", str(out)]
    return podlt(["attest", *named, "--trust-config", str(config_of(services, out.parent)), *options])


def config_of(services: LocalSigstore, folder: Path) -> Path:
    path = folder / "trust.json"
    path.write_text(services.trust_config())
    return path


def accept(services: LocalSigstore, document: dict[str, Any], identity: str = ANN, issuer: str = "") -> bytes:
    """The payload that sigstore's own verifier finds signed; else it raises."""
    trust = ClientTrustConfig.from_json(services.trust_config()).trusted_root
    policy = Identity(identity=identity, issuer=issuer or services.url)
    return Verifier(trusted_root=trust).verify_dsse(Bundle.from_json(json.dumps(document)), policy)[1]


@pytest.fixture(scope="module")
def signed(services: LocalSigstore, cheated: Trained, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command wrote for Ann."""
    out = tmp_path_factory.mktemp("signed") / "out"
    with pytest.MonkeyPatch.context() as patch:
        for name in (*OF_A_JOB, "BUILDKITE"):
            patch.delenv(name, raising=False)
        patch.setenv("SIGSTORE_IDENTITY_TOKEN", services.token(ANN))
        assert attested(services, cheated, out, model) == 0
    return out


def document_of(signed: Path, name: str = KEYLESS_PROVENANCE) -> dict[str, Any]:
    return dict(json.loads((signed / name).read_bytes()))


# -- what is accepted ------------------------------------------------------------------------------------------------


def test_sigstores_verifier_accepts_both_files_of_whom_they_are(services: LocalSigstore, signed: Path) -> None:
    statement = json.loads(accept(services, document_of(signed)))
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    listed = json.loads(accept(services, document_of(signed, SIGNATURE)))
    assert listed["subject"][0]["digest"] in [each["digest"] for each in statement["subject"]]
    assert services.rekor.entries, "the log has them"


def test_model_signing_accepts_the_model_and_no_other(services: LocalSigstore, signed: Path, model: Path) -> None:
    def verified(folder: Path, identity: str = ANN) -> Any:
        from click.testing import CliRunner
        from model_signing._cli import main

        command = ["verify", "sigstore", str(folder), "--signature", str(signed / SIGNATURE), "--identity", identity]
        trust = config_of(services, signed.parent)
        return CliRunner().invoke(main, [*command, "--identity_provider", services.url, "--trust_config", str(trust)])

    assert verified(model).exit_code == 0, verified(model).output
    assert verified(model, "eve@example.org").exit_code != 0
    copy = shutil.copytree(model, signed.parent / "copy", dirs_exist_ok=True)
    raw = bytearray((copy / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (copy / "model.safetensors").write_bytes(raw)
    assert verified(copy).exit_code != 0


def test_sigstores_command_accepts_the_provenance_for_the_models_file(
    services: LocalSigstore, signed: Path, model: Path
) -> None:
    def verified(file: Path) -> int:
        command = [sys.executable, "-m", "sigstore", "--trust-config", str(config_of(services, signed.parent))]
        command += ["verify", "identity", "--bundle", str(signed / KEYLESS_PROVENANCE)]
        command += ["--cert-identity", ANN, "--cert-oidc-issuer", services.url, str(file)]
        return subprocess.run(command, capture_output=True).returncode

    assert verified(model / "model.safetensors") == 0
    assert verified(signed / SIGNATURE) != 0


# -- what is refused -------------------------------------------------------------------------------------------------

SPOILED = {
    "the statement": ("dsseEnvelope", "payload"),
    "the signature": ("dsseEnvelope", "signatures", 0, "sig"),
    "the certificate": ("verificationMaterial", "certificate", "rawBytes"),
    "the entry": ("verificationMaterial", "tlogEntries", 0, "canonicalizedBody"),
    "the root": ("verificationMaterial", "tlogEntries", 0, "inclusionProof", "rootHash"),
    "the path": ("verificationMaterial", "tlogEntries", 0, "inclusionProof", "hashes", 0),
    "the log's promise": ("verificationMaterial", "tlogEntries", 0, "inclusionPromise", "signedEntryTimestamp"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_spoiled_byte_is_refused(what: str, services: LocalSigstore, signed: Path) -> None:
    if what == "the log's promise" and services.rekor.version == 2:
        pytest.skip("the second Rekor promises nothing: it answers when the entry is in the tree")
    document = document_of(signed, SIGNATURE)  # the second entry: its path is not empty
    accept(services, document)
    *way, last = SPOILED[what]
    place: Any = document
    for step in way:
        place = place[step]
    raw = bytearray(base64.b64decode(place[last]))
    raw[-1 if what == "the signature" else len(raw) // 2] ^= 1
    place[last] = base64.b64encode(raw).decode()
    with pytest.raises((SigstoreError, ValueError)):  # a certificate that cannot be read is a ValueError
        accept(services, document)


def test_a_spoiled_time_is_refused_where_nothing_else_gives_one(services: LocalSigstore, signed: Path) -> None:
    document = document_of(signed)
    (stamp,) = document["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    raw = bytearray(base64.b64decode(stamp["signedTimestamp"]))
    raw[-1] ^= 1
    stamp["signedTimestamp"] = base64.b64encode(raw).decode()
    if services.rekor.version == 1:  # its promise gives the time as well
        accept(services, document)
    else:
        with pytest.raises(VerificationError, match="verified time"):
            accept(services, document)


def test_another_identity_and_another_issuer_are_refused(services: LocalSigstore, signed: Path) -> None:
    with pytest.raises(VerificationError, match=r"eve@example\.org"):
        accept(services, document_of(signed), "eve@example.org")
    with pytest.raises(VerificationError):
        accept(services, document_of(signed), ANN, "https://accounts.example.org")


def test_another_authoritys_certificate_is_refused(services: LocalSigstore, signed: Path, own: LocalSigstore) -> None:
    with pytest.raises(VerificationError):
        accept(own, document_of(signed), issuer=services.url)


def test_a_certificate_that_had_expired_when_the_log_saw_it_is_refused(
    own: LocalSigstore, cheated: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.rekor.ahead = 3600
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", own.token(ANN))
    assert attested(own, cheated, tmp_path / "out") == 0
    with pytest.raises(VerificationError):
        accept(own, document_of(tmp_path / "out"))


# -- whose identity --------------------------------------------------------------------------------------------------


def in_a_job(services: LocalSigstore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As GitHub Actions starts a job that may have a token."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "secret")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{services.url}/job-token?version=1")


def test_a_job_signs_as_its_workflow_and_the_printed_command_verifies_it(
    own: LocalSigstore, cheated: Trained, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from click.testing import CliRunner
    from model_signing._cli import main

    in_a_job(own, monkeypatch)
    assert attested(own, cheated, tmp_path / "out", model) == 0
    text = capsys.readouterr().out
    assert f"{WORKFLOW}, says {GITHUB}" in text and f"{WORKFLOW} says that these files are the model" in text
    accept(own, document_of(tmp_path / "out"), WORKFLOW, GITHUB)
    (line,) = [each for each in text.splitlines() if each.startswith("verify it without podlt: ")]
    name, *command = shlex.split(line.removeprefix("verify it without podlt: "))
    assert name == "model_signing" and CliRunner().invoke(main, command).exit_code == 0


def test_json_names_whom_the_certificate_names(
    own: LocalSigstore, cheated: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    in_a_job(own, monkeypatch)
    assert attested(own, cheated, tmp_path / "out", None, "--json") == 0
    assert json.loads(capsys.readouterr().out)["certificate"] == {"identity": WORKFLOW, "issuer": GITHUB}


def test_a_job_without_the_permission_is_told_which(
    own: LocalSigstore, cheated: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert attested(own, cheated, tmp_path / "out") == 2
    assert "id-token: write" in capsys.readouterr().err and not (tmp_path / "out").exists()


LOGIN = """
import sys
from podlt.cli import main
main()
"""
BROWSER = """
import sys, urllib.request
urllib.request.urlopen(sys.argv[1]).read()
"""


def test_somebody_at_a_terminal_logs_in_by_a_browser(own: LocalSigstore, cheated: Trained, tmp_path: Path) -> None:
    (tmp_path / "browser.py").write_text(BROWSER)
    ours, theirs = pty.openpty()
    environment = os.environ | {"BROWSER": f"{sys.executable} {tmp_path / 'browser.py'} %s"}
    command = ["attest", str(cheated.result.run), "--keyless", "--out", str(tmp_path / "out")]
    command += ["--trust-config", str(config_of(own, tmp_path))]
    try:
        done = subprocess.run(
            [sys.executable, "-c", LOGIN, *command], stdin=theirs, env=environment, capture_output=True, timeout=300
        )
    finally:
        os.close(ours), os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert b"in a public log for good" in done.stderr
    assert own.asked.count("/token") == 1, "one login for both files"
    accept(own, document_of(tmp_path / "out"))
    accept(own, document_of(tmp_path / "out", SIGNATURE))


def test_without_a_token_and_a_terminal_nothing_is_asked_and_the_ways_are_named(
    own: LocalSigstore, cheated: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.stdin", (tmp_path / "nothing").open("w+"))
    assert attested(own, cheated, tmp_path / "out") == 2
    error = capsys.readouterr().err
    for part in ("no terminal", "SIGSTORE_IDENTITY_TOKEN", "--key FILE"):
        assert part in " ".join(error.split())
    assert not own.asked and not (tmp_path / "out").exists()


def test_a_token_that_expired_while_the_run_was_verified_is_asked_for_again() -> None:
    given: list[Any] = []

    def source() -> Any:
        valid = bool(given)
        given.append(SimpleNamespace(issuer="https://i.example", identity=ANN, in_validity_period=lambda: valid))
        return given[-1]

    signer = KeylessSigner(None, source)
    assert signer.identity == f"https://i.example#{ANN}" and len(given) == 1
    assert signer._current() is given[1], "the first had expired"
    assert signer._current() is given[1] and len(given) == 2


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/api/v2/signingCert", "no certificate (Fulcio)"), ("/api/v1/log/entries", "no entry in the transparency log")],
)
def test_a_service_that_is_down_is_named_and_nothing_is_written(
    path: str, expected: str, own: LocalSigstore, cheated: Trained, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    own.down.add(path)
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", own.token(ANN))
    assert attested(own, cheated, tmp_path / "out") == 2
    error = " ".join(capsys.readouterr().err.split())
    assert expected in error and "503" in error and "down for maintenance" in error
    assert not (tmp_path / "out").exists()


def test_services_that_cannot_be_reached_are_said_to_be(
    own: LocalSigstore, cheated: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    text, token = own.trust_config().replace(own.url, "http://127.0.0.1:9"), own.token(ANN)
    (tmp_path / "elsewhere.json").write_text(text)
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", token)
    command = ["attest", str(cheated.result.run), "--keyless", "--out", str(tmp_path / "out")]
    assert podlt([*command, "--trust-config", str(tmp_path / "elsewhere.json")]) == 2
    error = capsys.readouterr().err
    assert "Connection refused" in error and token not in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("token", ["", "no.token.at-all", "expired", "a stranger's"])
def test_a_token_that_is_none_is_refused(
    token: str, own: LocalSigstore, cheated: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "other").mkdir()
    made = {"expired": own.token(ANN, lasts=-60), "a stranger's": LocalSigstore.token(own_provider(tmp_path, own), ANN)}
    token = made.get(token, token)
    assert attested(own, cheated, tmp_path / "out", None, "--identity-token", token) == 2
    error = capsys.readouterr().err
    assert "keyless signing failed" in error and not (tmp_path / "out").exists()
    assert not token or token not in error


def own_provider(folder: Path, like: LocalSigstore) -> LocalSigstore:
    """A provider that says it is another's."""
    stranger = LocalSigstore(folder / "other")
    stranger.url = like.url
    return stranger


def test_a_trust_configuration_that_is_none_is_named(
    cheated: Trained, own: LocalSigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", own.token(ANN))
    command = ["attest", str(cheated.result.run), "--keyless", "--out", str(tmp_path / "out"), "--trust-config"]
    for name, content in (("missing", None), ("empty", ""), ("list", "[]"), ("half", own.trust_config()[:500])):
        path = tmp_path / f"{name}.json"
        if content is not None:
            path.write_text(content)
        assert podlt([*command, str(path)]) == 2
        error = capsys.readouterr().err
        assert "ClientTrustConfig" in error and "Traceback" not in error
    assert podlt([*command, str(path), "--staging"]) == 2
    assert not (tmp_path / "out").exists()


def test_what_was_verified_is_printed_even_if_its_summary_cannot_be_signed(
    own: LocalSigstore, cheated: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", own.token(ANN))
    target = tmp_path / "verification.sigstore.json"
    command = ["verify", str(cheated.result.run), "--summary", str(target), "--keyless"]
    command += ["--trust-config", str(config_of(own, tmp_path))]
    own.down.add("/api/v2/signingCert")
    assert podlt(command) == 2
    said = capsys.readouterr()
    assert "holds" in said.out and "Fulcio" in said.err and not target.exists()
    own.down.clear()
    assert podlt(command) == 0
    statement = json.loads(accept(own, json.loads(target.read_bytes())))
    assert statement["predicate"]["verificationResult"] == "PASSED"
    assert statement["predicate"]["verifier"]["id"] == f"{own.url}#{ANN}"
