"""`podlt attest`, held against the verifiers of others: in-toto, securesystemslib, and `model_signing`."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from safetensors.torch import load_file, save_file
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from small_runs import Trained

from podlt.attestation.envelope import lines_of
from podlt.attestation.keyless import KeylessSigner, keyless_signer
from podlt.attestation.manifest import ModelManifest
from podlt.attestation.provenance import BUILD_TYPE
from podlt.attestation.signing_key import FileKey, load_key, new_key
from podlt.attestation.sources import _named, _tokenizer, data_dependencies, declared
from podlt.attestation.write import PROVENANCE, SIGNATURE, Attestation, attest
from podlt.cli.app import run as podlt
from podlt.data.fetch import file_sha256
from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec
from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.manager.trained import export
from podlt.protocol import entries as e
from podlt.store.bundle import write_bundle
from podlt.store.files import write_whole


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "me.pem"
    new_key(path)
    return path


@pytest.fixture(scope="module")
def folder(cheated: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model."""
    path = tmp_path_factory.mktemp("export") / "digits-model"
    export(cheated.result.run, path)
    return path


@pytest.fixture(scope="module")
def done(cheated: Trained, folder: Path, key: Path) -> Iterator[Attestation]:
    """The attestation of the exported model."""
    yield attest(cheated.result.run, load_key(key), podlt="0", model=folder, depends=["hf://someone/base@0123abc"])


def public_of(key: Path) -> SSlibKey:
    """The public key as securesystemslib has it, by the name that our envelopes give it."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    pem = key.with_name(f"{key.name}.pub").read_bytes()
    return SSlibKey.from_crypto(load_pem_public_key(pem), keyid=load_key(key).hint)


def payload_of(path: Path) -> dict[str, Any]:
    """The statement in an envelope's file, with no signature checked."""
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))
    return found


def parsed(path: Path) -> Statement:
    """The statement as in-toto's own library reads it; it knows every field."""
    return Statement.copy_from_pb(json_format.ParseDict(payload_of(path), statement_pb2.Statement()))


def verify_elsewhere(model: Path, signature: Path, key: Path) -> Any:
    """What the command `model_signing verify key` comes to."""
    from click.testing import CliRunner
    from model_signing._cli import main

    command = ["verify", "key", str(model), "--signature", str(signature), "--public_key", f"{key}.pub"]
    return CliRunner().invoke(main, command)


# -- provenance ------------------------------------------------------------------------------------------------------


def test_a_stock_verifier_of_envelopes_accepts_the_provenance(done: Attestation, key: Path) -> None:
    envelope = Envelope.from_dict(json.loads(done.provenance.read_bytes()))
    assert envelope.verify([public_of(key)], 1)
    assert envelope.payload_type == "application/vnd.in-toto+json"


def test_it_refuses_another_payload_and_another_key(done: Attestation, key: Path, tmp_path: Path) -> None:
    document = json.loads(done.provenance.read_bytes())
    document["payload"] = base64.b64encode(base64.b64decode(document["payload"]) + b" ").decode()
    with pytest.raises(VerificationError):
        Envelope.from_dict(document).verify([public_of(key)], 1)
    other = tmp_path / "other.pem"
    new_key(other)
    stranger = SSlibKey.from_crypto(load_key(other)._private.public_key(), keyid=load_key(key).hint)
    with pytest.raises(VerificationError):
        Envelope.from_dict(json.loads(done.provenance.read_bytes())).verify([stranger], 1)


def test_in_totos_own_library_reads_the_statement_and_slsas_predicate(done: Attestation) -> None:
    statement = parsed(done.provenance)
    statement.validate()
    predicate = json_format.ParseDict(
        payload_of(done.provenance)["predicate"], provenance_pb2.Provenance()
    )  # no unknown field
    assert statement.pb.predicate_type == "https://slsa.dev/provenance/v1"
    assert predicate.build_definition.build_type == BUILD_TYPE


def test_the_provenance_names_what_the_run_was_made_of_by_public_digests(
    done: Attestation, cheated: Trained, folder: Path
) -> None:
    run, definition = cheated.result.run, payload_of(done.provenance)["predicate"]["buildDefinition"]
    named = {each.get("name", each.get("uri")): each for each in definition["resolvedDependencies"]}
    for name in ("recipe.json", "program.json"):
        assert named[name]["digest"]["sha256"] == file_sha256(run / name)
    assert definition["externalParameters"]["recipe"] == json.loads((run / "recipe.json").read_bytes())
    subjects = {each["name"]: each["digest"]["sha256"] for each in payload_of(done.provenance)["subject"]}
    assert subjects["digits-model/model.safetensors"] == file_sha256(folder / "model.safetensors")
    assert "compared it with nothing" in named["hf://someone/base@0123abc"]["annotations"]["declared"]


def test_files_that_the_log_does_not_bind_are_named_as_such(done: Attestation) -> None:
    external = payload_of(done.provenance)["predicate"]["buildDefinition"]["externalParameters"]
    assert external["model"]["notBoundByTheLog"] == done.unbound == ["inference.json"]


def test_buffers_that_are_not_the_runs_are_not_attested(
    cheated: Trained, folder: Path, key: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    (copy / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (copy / "buffers.safetensors").write_bytes(b"anything")
    with pytest.raises(UsageError, match="not the buffers of this run"):
        attest(cheated.result.run, load_key(key), podlt="0", model=copy)


def test_the_logs_last_head_is_a_byproduct(done: Attestation, cheated: Trained) -> None:
    byproduct = payload_of(done.provenance)["predicate"]["runDetails"]["byproducts"][0]
    assert base64.b64decode(byproduct["content"]).decode() == done.verification.head
    assert byproduct["annotations"]["entries"] == cheated.state.index


def test_what_is_not_known_of_the_data_is_said_in_the_statement_and_to_the_signer(done: Attestation) -> None:
    """scikit-learn's digits are in no file of their own."""
    named = payload_of(done.provenance)["predicate"]["buildDefinition"]["resolvedDependencies"]
    (data,) = [each for each in named if each.get("name") == "data/digits"]
    assert "digest" not in data and "no public digest" in data["annotations"]["notKnown"]
    assert data["annotations"]["notKnown"] in [each.unknown for each in done.dependencies]


# -- the model's signature -------------------------------------------------------------------------------------------


def test_model_signing_accepts_the_folder_and_refuses_a_changed_file(
    done: Attestation, folder: Path, key: Path, tmp_path: Path
) -> None:
    found = verify_elsewhere(folder, done.signature, key)
    assert found.exit_code == 0 and "Verification succeeded" in found.output, found.output
    changed = tmp_path / "digits-model"
    changed.mkdir()
    for path in folder.iterdir():
        (changed / path.name).write_bytes(path.read_bytes() + (b" " if path.name == "inference.json" else b""))
    found = verify_elsewhere(changed, changed / SIGNATURE, key)
    assert found.exit_code != 0 and "inference.json" in found.output


def test_the_signature_and_the_provenance_have_the_same_root_digest(done: Attestation) -> None:
    bundle = json.loads(done.signature.read_bytes())
    signed = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    (subject,) = signed["subject"]
    stated = [each["digest"] for each in payload_of(done.provenance)["subject"]]
    assert subject["digest"] in stated and subject["digest"]["sha256"] == done.manifest.root.hex()


def test_the_runs_own_file_is_attested_where_no_folder_is_given_and_so_is_a_bundles(
    cheated: Trained, key: Path, tmp_path: Path
) -> None:
    run, file = cheated.result.run, tmp_path / "run.podlt"
    write_bundle(run, file)
    of_run = attest(run, load_key(key), podlt="0", out=tmp_path / "one")
    of_bundle = attest(file, load_key(key), podlt="0")
    assert of_bundle.provenance == tmp_path / "run-attestation" / PROVENANCE
    assert of_run.manifest == of_bundle.manifest
    from model_signing.verifying import Config

    verifier = Config().use_elliptic_key_verifier(public_key=f"{key}.pub")
    verifier.verify(run / "model.safetensors", of_run.signature)


def test_tensors_in_another_encoding_are_attested_and_other_tensors_are_not(
    cheated: Trained, key: Path, tmp_path: Path
) -> None:
    """`save_pretrained` writes metadata into the header."""
    tensors = load_file(cheated.result.run / "model.safetensors")
    save_file(tensors, tmp_path / "same.safetensors", {"format": "pt"})
    found = attest(
        cheated.result.run, load_key(key), podlt="0", model=tmp_path / "same.safetensors", out=tmp_path / "out"
    )
    assert not found.same_bytes
    external = payload_of(found.provenance)["predicate"]["buildDefinition"]["externalParameters"]
    assert "another encoding" in external["model"]["encoding"]
    first = next(iter(tensors))
    save_file({**tensors, first: tensors[first] + 1}, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="not the model that this run trained"):
        attest(cheated.result.run, load_key(key), podlt="0", model=tmp_path / "other.safetensors", out=tmp_path)


# -- what is refused -------------------------------------------------------------------------------------------------


def test_nothing_is_signed_where_the_log_or_the_model_fails(cheated: Trained, key: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("log.db", "recipe.json", "program.json", "run.json", "model.safetensors"):
        (copy / name).write_bytes((cheated.result.run / name).read_bytes())
    raw = bytearray((copy / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (copy / "model.safetensors").write_bytes(raw)
    with pytest.raises(InvalidProofError, match="nothing is attested: claim 15"):
        attest(copy, load_key(key), podlt="0")
    assert not (tmp_path / "run-attestation").exists()


def test_a_file_that_is_there_is_written_over_only_by_force(cheated: Trained, key: Path, done: Attestation) -> None:
    with pytest.raises(UsageError, match="--force"):
        attest(cheated.result.run, load_key(key), podlt="0", model=done.provenance.parent)
    attest(cheated.result.run, load_key(key), podlt="0", model=done.provenance.parent, force=True)


def test_one_of_the_two_files_is_not_left_where_the_other_cannot_be_written(
    cheated: Trained, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.name == SIGNATURE:
            raise StorageError(f"{path}: cannot be written: No space left on device")
        write_whole(path, data)

    monkeypatch.setattr("podlt.attestation.write.write_whole", full)
    with pytest.raises(StorageError, match=r"model\.sig: cannot be written"):
        attest(cheated.result.run, load_key(key), podlt="0", out=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_key_that_others_can_read_or_that_is_none_is_refused(key: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose.pem"
    loose.write_bytes(key.read_bytes())
    loose.chmod(0o644)
    with pytest.raises(UsageError, match="0600"):
        load_key(loose)
    for content in (b"nothing", *map(_pem, ("ed25519", "secp256k1"))):
        loose.write_bytes(content)
        loose.chmod(0o600)
        with pytest.raises(UsageError, match="P-256, P-384 or P-521"):
            load_key(loose)
    with pytest.raises(UsageError, match="never overwritten"):
        new_key(key)


def _pem(kind: str) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256K1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("curve", ["SECP384R1", "SECP521R1"])
def test_the_other_curves_sign_what_a_stock_verifier_accepts(curve: str, cheated: Trained) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(getattr(ec, curve)())
    signer = FileKey(private)
    envelope = Envelope.from_dict(signer.bundle(b"{}")["dsseEnvelope"])
    assert envelope.verify([SSlibKey.from_crypto(private.public_key(), keyid=signer.hint)], 1)


def test_sigstores_own_library_takes_each_statement_that_is_signed(
    done: Attestation, cheated: Trained, key: Path, tmp_path: Path
) -> None:
    """Signing without a key itself is tried in test_attest_keyless.py."""
    from sigstore.dsse import Statement as SigstoreStatement

    summary = tmp_path / "v.jsonl"
    assert podlt(["verify", str(cheated.result.run), "--summary", str(summary), "--key", str(key)]) == 0
    envelopes = [json.loads(path.read_bytes()) for path in (done.provenance, summary)]
    envelopes.append(json.loads(done.signature.read_bytes())["dsseEnvelope"])
    for envelope in envelopes:
        SigstoreStatement(base64.b64decode(envelope["payload"]))


def test_a_keyless_signer_gives_what_sigstore_gives_and_the_file_is_the_whole_bundle() -> None:
    document = {"mediaType": "x", "dsseEnvelope": {"payload": "e30="}}

    class Context:
        @contextmanager
        def signer(self, token: Any) -> Iterator[Any]:
            yield SimpleNamespace(sign_dsse=lambda statement: SimpleNamespace(to_json=lambda: json.dumps(document)))

    payload = ModelManifest("m", {".": bytes(32)}).statement()
    token = SimpleNamespace(
        issuer="https://issuer.example", identity="ann@example.org", in_validity_period=lambda: True
    )
    signer = KeylessSigner(Context(), lambda: token)
    assert signer.bundle(payload) == document and signer.identity == "https://issuer.example#ann@example.org"
    assert json.loads(lines_of(document, keyless=True)) == document


def test_an_identity_that_the_machine_has_signs_without_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CI job's token, made here: sigstore's own class reads it; its network is a stand-in."""
    from sigstore.models import ClientTrustConfig
    from sigstore.sign import SigningContext

    def part(fields: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")

    now = int(time.time())
    claims = {"iss": "https://token.actions.githubusercontent.com", "aud": "sigstore", "sub": "repo:a/b", "nbf": now}
    claims |= {"iat": now, "exp": now + 600, "job_workflow_ref": "a/b/.github/workflows/train.yml@main"}
    token = ".".join([part({"alg": "RS256", "typ": "JWT"}), part(claims), "c2ln"])
    asked: list[Any] = []

    class Context:
        @contextmanager
        def signer(self, token: Any) -> Iterator[Any]:
            asked.append(token)
            yield SimpleNamespace(sign_dsse=lambda statement: SimpleNamespace(to_json=lambda: "{}"))

    monkeypatch.setattr(ClientTrustConfig, "production", lambda: SimpleNamespace())
    monkeypatch.setattr(SigningContext, "from_trust_config", lambda trust: Context())
    monkeypatch.setattr("sigstore.oidc.detect_credential", lambda: token)
    signer = keyless_signer()
    assert signer.identity.startswith("https://token.actions.githubusercontent.com#") and "a/b" in signer.identity
    assert signer.bundle(ModelManifest("m", {".": bytes(32)}).statement()) == {}
    assert str(asked[0]) == token
    claims["exp"] = claims["iat"] = claims["nbf"] = now - 7200
    token = ".".join([part({"alg": "RS256", "typ": "JWT"}), part(claims), "c2ln"])
    with pytest.raises(UsageError, match=r"keyless signing failed.*sign with a key"):
        keyless_signer()


def test_keyless_signing_says_what_it_needs_where_sigstore_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    from sigstore.models import ClientTrustConfig

    def offline() -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(ClientTrustConfig, "production", offline)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(UsageError, match=r"no route to host.*sign with a key: --key FILE"):
        keyless_signer()


# -- sources ---------------------------------------------------------------------------------------------------------


def _facts(prepared: Any, tmp_path: Path) -> tuple[Any, Any]:
    """What `data_dependencies` asks of the first entry and of the run's files."""
    begin = SimpleNamespace(data=prepared.train.digest, test=e.NO_TEST, examples=prepared.train.examples)
    return begin, SimpleNamespace(kind="bundle", path=tmp_path / "run.podlt")


def test_files_are_named_by_their_sha256_once_they_are_found_to_be_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "datasets--someone--flowers" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    table = snapshot / "flowers.csv"
    table.write_text("width,kind\n1.5,a\n2.5,b\n3.5,a\n4.5,b\n")
    listed = {"@type": "cr:FileObject", "name": "flowers.csv", "sha256": file_sha256(table)}
    croissant = {
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "url": "https://example.org/flowers",
        "distribution": [listed],
    }
    (snapshot / "croissant.json").write_text(json.dumps(croissant))
    spec = DataSpec(str(table), label="kind")
    recipe: Any = SimpleNamespace(data=DataSpec("flowers.csv", label="kind"))
    begin, files = _facts(prepare(spec, tmp_path / "cache"), tmp_path)
    first, second = data_dependencies(recipe, begin, files, tmp_path / "cache", snapshot)
    assert first.descriptor["digest"] == {"sha256": file_sha256(table)} and not first.unknown
    assert first.descriptor["uri"] == f"https://huggingface.co/datasets/someone/flowers/tree/{revision}"
    assert second.descriptor["uri"] == "https://example.org/flowers"
    assert second.descriptor["digest"] == {"sha256": file_sha256(snapshot / "croissant.json")}
    table.write_text("width,kind\n1.5,a\n2.5,b\n3.5,a\n9.5,b\n")
    (other,) = data_dependencies(recipe, begin, files, tmp_path / "cache", snapshot)
    assert "digest" not in other.descriptor and "not what the run was trained on" in other.unknown
    (missing,) = data_dependencies(recipe, begin, files, tmp_path / "cache", tmp_path / "elsewhere")
    assert "no public digest" in missing.unknown


def test_a_file_that_podlt_wrote_of_an_object_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / f"{'ab' * 20}.csv"
    path.write_text("width,kind\n1.5,a\n2.5,b\n")
    prepared = prepare(DataSpec(str(path), label="kind"), tmp_path / "cache")
    begin, files = _facts(prepared, tmp_path)
    named = path.rename(tmp_path / f"{'ab' * 20}.parquet")
    import pyarrow.csv
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.csv.read_csv(named), named)
    prepared = prepare(DataSpec(str(named), label="kind"), tmp_path / "cache")
    begin, files = _facts(prepared, tmp_path)
    recipe: Any = SimpleNamespace(data=DataSpec(named.name, label="kind"))
    (found,) = data_dependencies(recipe, begin, files, tmp_path / "cache", named)
    assert "from an object that a Python program held" in found.unknown
    assert found.descriptor["annotations"]["notKnown"] == found.unknown


def test_a_named_set_that_is_not_the_runs_is_not_named(tmp_path: Path) -> None:
    recipe: Any = SimpleNamespace(data=DataSpec("digits"))
    begin: Any = SimpleNamespace(data=bytes(32), test=e.NO_TEST, examples=1)
    files: Any = SimpleNamespace(kind="bundle", path=tmp_path)
    (found,) = data_dependencies(recipe, begin, files, tmp_path / "cache", None)
    assert "named set digits is not what the run was trained on" in found.unknown


def test_a_tokenizer_beside_the_data_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    (found,) = _tokenizer(DataSpec("texts.txt", tokenizer="tokenizer.json"), tmp_path / "texts.txt")
    assert found.descriptor["digest"] == {"sha256": file_sha256(tmp_path / "tokenizer.json")}


@pytest.mark.parametrize("name", ["mnist", "fashion", "census", "austen"])
def test_a_named_set_is_named_by_its_package(name: str) -> None:
    archive, *members = _named(name)
    assert archive.descriptor["uri"].startswith("pkg:") and len(archive.descriptor["digest"]["sha256"]) == 64
    assert members and all(len(each.descriptor["digest"]["sha256"]) == 64 for each in members)


@pytest.mark.parametrize("text", ["no uri", "hf://a/b=sha256:xyz"])
def test_what_the_signer_names_besides_must_be_a_uri(text: str) -> None:
    with pytest.raises(UsageError, match="expected URI"):
        declared([text])


# -- summaries, and the command --------------------------------------------------------------------------------------


def test_verify_writes_a_signed_summary_that_names_every_claim(cheated: Trained, key: Path, tmp_path: Path) -> None:
    target = tmp_path / "verification.intoto.jsonl"
    assert podlt(["verify", str(cheated.result.run), "--summary", str(target), "--key", str(key)]) == 0
    assert Envelope.from_dict(json.loads(target.read_bytes())).verify([public_of(key)], 1)
    parsed(target).validate()
    statement = payload_of(target)
    predicate = statement["predicate"]
    assert statement["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert predicate["verificationResult"] == "PASSED" and predicate["verifiedLevels"] == ["PODLT_VERIFIED"]
    assert statement["subject"][0]["digest"]["sha256"] == file_sha256(cheated.result.run / "model.safetensors")
    outcomes = {each["name"]: each["outcome"] for each in predicate["https://podlt.run/claims/v1"]}
    assert outcomes["model"] == "holds" and outcomes["results"] == "not checked"


def test_a_summary_of_what_fails_says_so(cheated: Trained, key: Path, tmp_path: Path) -> None:
    target, run = tmp_path / "v.jsonl", str(cheated.result.run)
    assert podlt(["verify", run, "--manager-key", "00" * 32, "--summary", str(target), "--key", str(key)]) == 1
    predicate = payload_of(target)["predicate"]
    assert predicate["verificationResult"] == "FAILED" and predicate["verifiedLevels"] == ["FAILED"]


def test_the_command_prints_what_a_reader_may_conclude_and_what_not(
    cheated: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "new.pem"
    assert podlt(["attest", "--new-key", str(key)]) == 0
    assert key.stat().st_mode & 0o777 == 0o600
    run = str(cheated.result.run)
    assert podlt(["attest", run, "--key", str(key), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    for part in ("may conclude", "may not conclude", "not known", "model_signing verify key", "sha256:"):
        assert part in text
    assert podlt(["attest", run]) == 2
    assert "--new-key" in capsys.readouterr().err


@pytest.mark.parametrize("whole", [False, True])
def test_the_command_that_it_prints_verifies_a_directory_and_a_bundle(
    whole: bool, cheated: Trained, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cheated.result.run
    if whole:
        run = tmp_path / "what was sent.podlt"
        write_bundle(cheated.result.run, run)
    assert podlt(["attest", str(run), "--key", str(key), "--out", str(tmp_path / "signed")]) == 0
    printed = capsys.readouterr().out.partition("verify it without podlt: ")[2]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = subprocess.run(
        printed, shell=True, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert found.returncode == 0 and "succeeded" in found.stdout, found.stderr


def test_a_model_that_is_not_there_and_a_public_key_are_called_so(cheated: Trained, key: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model: podlt export"):
        attest(cheated.result.run, load_key(key), podlt="0", model=tmp_path / "none")
    with pytest.raises(UsageError, match="a public key"):
        load_key(key.with_name(f"{key.name}.pub"))
