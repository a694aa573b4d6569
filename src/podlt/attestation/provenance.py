"""SLSA provenance v1 of a model: the recipe is the build's parameters, and the run's log its record.

Source: slsa.dev/spec/v1.0/provenance.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from podlt import canonical
from podlt.attestation.envelope import Document, statement
from podlt.attestation.manifest import SINGLE, ModelManifest
from podlt.attestation.sources import Dependency
from podlt.log.tree_head import origin_of
from podlt.store.run_names import PROGRAM, RECIPE
from podlt.verify import Verification

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://podlt.run/buildtype/recipe/v1"
"""docs/guide/attest.md says what the fields mean for builds of this type."""


def subjects_of(model: ModelManifest) -> list[Document]:
    """The model as subjects: each of its files, and the root digest that Model Signing gives all of them."""
    files = [
        {"name": model.name if name == SINGLE else f"{model.name}/{name}", "digest": {"sha256": digest.hex()}}
        for name, digest in model.files.items()
    ]
    root: Document = {"name": f"{model.name} (OpenSSF Model Signing root)", "digest": {"sha256": model.root.hex()}}
    return [*files, root]


def provenance(
    model: ModelManifest, found: Verification, dependencies: Sequence[Dependency], notes: Document, podlt: str
) -> bytes:
    """The statement's bytes.

    Args:
        model: what was trained.
        found: the verification of the run, of which the log and the model hold.
        dependencies: data, base model, and whatever else the signer names.
        notes: what to say of the model's files besides.
        podlt: the version that states this.
    """
    begin, state, recipe, program = found.state.begin, found.state, found.documents.recipe, found.documents.program
    assert begin is not None and recipe is not None and program is not None
    document = canonical.from_json(recipe)
    internal: Document = {
        "run": state.run.hex(),
        "rounds": state.round,
        "epochs": state.epoch,
        "workers": len(state.workers),
        "shards": found.counts["shards"],
        "shardsCompared": compared(found),
        "workersConvicted": sum(bool(worker.convictions) for worker in state.workers.values()),
        "firstParameters": begin.parameters.hex(),
        "lastParameters": state.parameters.hex(),
        "arithmetic": begin.arithmetic.hex(),
    }
    materials: list[Document] = [
        {"name": RECIPE, "digest": {"sha256": hashlib.sha256(recipe).hexdigest()}},
        {"name": PROGRAM, "digest": {"sha256": hashlib.sha256(program).hexdigest()}},
        *(each.descriptor for each in dependencies),
    ]
    if torch := document.get("torch", ""):
        materials.append({"name": "torch", "uri": f"pkg:pypi/torch@{torch.partition('+')[0]}"})
    external: Document = {"recipe": document}
    if state.amendments:
        external["amendments"] = [
            {"rounds": rounds, "epochs": each.epochs, "optimizer": each.optimizer, "reason": each.reason}
            for rounds, each in state.amendments
        ]
    if notes:
        external["model"] = notes
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": external,
            "internalParameters": internal,
            "resolvedDependencies": materials,
        },
        "runDetails": {
            "builder": {"id": f"https://podlt.run/manager/{begin.manager.hex()}", "version": {"podlt": podlt}},
            "metadata": {
                "invocationId": origin_of(state.run),
                "startedOn": timestamp(begin.at),
                "finishedOn": timestamp(state.at),
            },
            "byproducts": [head_descriptor(found)],
        },
    }
    return statement(subjects_of(model), PREDICATE_TYPE, predicate)


def compared(found: Verification) -> int:
    """How many shards' results were compared, or executed by the manager."""
    return found.counts["agree"] + found.counts["vote"] + found.counts["referee"]


def head_descriptor(found: Verification) -> Document:
    """The log's last signed head: who has it knows every entry of the log."""
    note = found.head.encode()
    _, size, root = found.head.split("\n")[:3]
    return {
        "name": "tree head of the run's log",
        "uri": f"https://podlt.run/log/{found.state.run.hex()}",
        "digest": {"sha256": hashlib.sha256(note).hexdigest()},
        "content": base64.b64encode(note).decode(),
        "mediaType": "text/plain",
        "annotations": {"entries": int(size), "root": base64.b64decode(root).hex()},
    }


def timestamp(milliseconds: int) -> str:
    """A moment in UTC, as RFC 3339 writes it."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
