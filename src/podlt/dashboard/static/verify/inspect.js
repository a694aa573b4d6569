// Entries of a bundle that was verified, as a page shows them: read again from the file, with their path in the tree.
podltVerify.define("inspect", function (use) {
  "use strict";
  const { decode } = use("entries");
  const { climb, leafHash } = use("merkle");
  const { equal, hex } = use("bytes");

  async function bodyAt(verifier, index) {
    const part = verifier.bundle.member("log/entries");
    part.seek(verifier.places[index]);
    const head = await part.read(4);
    return part.read(new DataView(head.buffer, head.byteOffset).getUint32(0));
  }

  // An entry's fields as texts: bytes in hexadecimal.
  function plain(value) {
    if (value instanceof Uint8Array) return hex(value);
    if (Array.isArray(value)) return value.map(plain);
    if (typeof value === "bigint") return String(value);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]));
  }

  // One line about each of so many entries.
  async function list(verifier, first, most) {
    const rows = [];
    for (let index = first; index < Math.min(first + most, verifier.places.length); index++) {
      const entry = decodeOr(await bodyAt(verifier, index));
      const about = entry.round ?? entry.worker ?? entry.epoch ?? entry.reason ?? "";
      const what = "round" in entry ? "round" : "worker" in entry ? "worker" : "epoch" in entry ? "epoch" : "";
      rows.push({ index, kind: entry.kind, about: `${what} ${about}`.trim().slice(0, 80), at: Number(entry.at ?? 0n) });
    }
    return rows;
  }

  function decodeOr(body) {
    try {
      return decode(body);
    } catch {
      return { kind: "not readable" };
    }
  }

  // An entry with its leaf, and the path from there to the root of the last tree head.
  async function describe(verifier, index) {
    const body = await bodyAt(verifier, index);
    const { kind, identity, ...fields } = decodeOr(body);
    const { leaves } = verifier;
    const leaf = leafHash(body);
    const path = leaves.path(index);
    const root = verifier.tree.root();
    const steps = path.map(({ hash, left }) => ({ hash: hex(hash), left }));
    const leads = equal(climb(leaf, path), root);
    return { index, kind, fields: plain(fields), leaf: hex(leaf), steps, root: hex(root), size: leaves.size, leads };
  }

  return { list, describe };
});
