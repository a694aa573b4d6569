// The kinds of entries, field by field (docs/SPEC.md, 1.4 and section 3), and their one encoding.
//
// Counts, credits and times are BigInts: they reach 2^63 - 1. Numbers that are only ever looked up (workers, rounds,
// shards) are Numbers: what is beyond 2^53 - 1 is rounded, and no smaller for it.
podltVerify.define("entries", function (use) {
  "use strict";
  const { Broken, NotChecked, CLAIM } = use("claims");
  const { equal, utf8 } = use("bytes");
  const { digest: digestOf } = use("sha256");
  const { Reader, refuse } = use("msgpack");

  const FORMAT = 4;
  const MAX_RECORD = 16 * 2 ** 20;

  // Types: each reads its value.

  const bytesOf = (size) => (reader) => {
    const found = reader.bytes();
    if (found.length !== size) refuse(`expected ${size} bytes`);
    return found;
  };
  const below = (limit) => (reader) => {
    const found = reader.unsigned();
    if (found >= limit) refuse("a number is out of its range");
    return found;
  };
  const textOf = (most) => (reader) => {
    const found = reader.text();
    if (found.length > most && [...found].length > most) refuse("a text is too long");
    return found;
  };
  const oneOf = (...words) => (reader) => {
    const found = reader.text();
    if (!words.includes(found)) refuse(`no ${found.slice(0, 40)} is expected here`);
    return found;
  };
  const count = (reader) => BigInt(reader.unsigned());
  const index = (reader) => Number(reader.unsigned());
  const float = (reader) => reader.float();
  const floatOrNil = (reader) => {
    if (reader.data[reader.at] !== 0xc0) return reader.float();
    reader.at += 1;
    return null;
  };
  const between = (least, most) => (reader) => {
    const found = reader.small();
    if (found < least || found > most) refuse("a number is out of its range");
    return found;
  };
  const list = (item) => (reader) => {
    const found = new Array(reader.list());
    for (let i = 0; i < found.length; i++) found[i] = item(reader);
    return found;
  };
  // A struct that is written as an array of its fields.
  const array = (fields) => {
    const parts = Object.entries(fields);
    return (reader) => {
      if (reader.list() !== parts.length) refuse(`expected ${parts.length} fields`);
      const found = {};
      for (const [name, type] of parts) found[name] = type(reader);
      return found;
    };
  };

  const digest = bytesOf(32);
  const key = bytesOf(32);
  const signature = bytesOf(64);
  const worker = below(2 ** 20);
  const seat = below(2 ** 25);
  const round = below(2 ** 40);
  const text = textOf(4096);
  const transfer = array({ kind: oneOf("earn", "vest", "forfeit", "seize", "return"), worker, amount: count });

  const KINDS = {
    begin: {
      preset: oneOf("classic", "guarded"), manager: key, nonce: digest, recipe: digest, program: digest,
      arithmetic: digest, data: digest, test: digest, parameters: digest, seed: digest, examples: count, epochs: count,
      batch_size: count, shard_size: count, local_steps: count, local_lr: floatOrNil, spares: count,
      checked: count, own: count, own_most: count, clip: count, escrow: count, first_fault: oneOf("evict", "suspend"),
      reward: count, chain_end: digest, chain_length: count,
    },
    join: { worker, key, operator: textOf(100), deposit: count, seen: count, root: digest, signature, share: signature },
    withdraw: { worker, reason: text },
    shares: { round, levels: list(array({ worker, level: between(-5, 5) })) },
    open: { round, attempt: count, epoch: count, offset: count, examples: count, parameters: digest, shards: list(digest) },
    redeal: { round, seat, holder: worker },
    commit: { round, commitments: list(array({ seat, holder: worker, commitment: digest, signature })) },
    reveal: {
      round, secret: digest,
      openings: list(array({ seat, holder: worker, update: digest, salt: bytesOf(16) })),
    },
    verdict: {
      round, shard: index, outcome: oneOf("agree", "vote", "referee"),
      reason: oneOf("compared", "own", "differ", "suspect"), accepted: digest, convicted: list(worker),
    },
    apply: {
      round, update: digest, parameters: digest, loss: float,
      clipped: list(array({ shard: index, part: between(0, 1), exponent: between(1, 1024) })),
    },
    measure: { epoch: count, test: digest, parameters: digest, figures: list(array({ name: text, value: float })) },
    pay: { round, transfers: list(transfer) },
    release: { transfers: list(transfer) },
    amend: { epochs: count, optimizer: text, reason: text },
    resume: {},
    close: { outcome: oneOf("complete", "stopped"), reason: text },
  };

  function encodedText(value) {
    const raw = utf8(value);
    return Uint8Array.from([0xa0 + raw.length, ...raw]); // names are shorter than 32 bytes
  }

  // Tag of a kind ("join/4") -> its fields, `at` last, each with the bytes of its name.
  const DECODERS = new Map(
    Object.entries(KINDS).map(([name, fields]) => {
      const parts = [...Object.entries(fields), ["at", count]];
      return [`${name}/${FORMAT}`, { name, parts: parts.map(([field, type]) => ({ field, type, raw: encodedText(field) })) }];
    }),
  );
  const KIND = encodedText("kind");

  function expectName(reader, raw) {
    const start = reader.take(raw.length);
    for (let i = 0; i < raw.length; i++) if (reader.data[start + i] !== raw[i]) refuse("a field is missing or out of order");
  }

  // The entry whose one encoding the bytes are; a first entry with the run's identity (2.3).
  function read(body) {
    const reader = new Reader(body);
    const fields = reader.map();
    expectName(reader, KIND);
    const kind = DECODERS.get(reader.text());
    if (!kind) refuse("no such kind of entry");
    if (fields !== kind.parts.length + 1) refuse("a field is missing or too many");
    const entry = { kind: kind.name };
    let start = 0;
    for (const { field, type, raw } of kind.parts) {
      expectName(reader, raw);
      start = reader.at;
      entry[field] = type(reader);
    }
    if (reader.at !== body.length) refuse("bytes after its end");
    if (entry.kind === "begin") entry.identity = digestOf(`run/${FORMAT}`, timeless(body, start));
    return entry;
  }

  // Raises Broken (FORM), or NotChecked where a newer podlt wrote it.
  function decode(body) {
    if (body.length > MAX_RECORD) throw new Broken(CLAIM.FORM, `record of ${body.length} bytes is longer than ${MAX_RECORD}`);
    try {
      return read(body);
    } catch (error) {
      const [, name, version] = /^([a-z-]{1,32})\/([1-9][0-9]{0,5})$/.exec(tagOf(body)) || ["", "", "0"];
      if (Number(version) > FORMAT) {
        const can = `this one reads format ${FORMAT}`;
        throw new NotChecked(`written by a newer podlt (${name}/${version}; ${can}): upgrade podlt to check it`);
      }
      throw error;
    }
  }

  // What an entry that cannot be read says it is; "" if it says nothing.
  function tagOf(body) {
    let tag = "";
    try {
      const reader = new Reader(body, false);
      for (let left = reader.map(); left > 0; left--) {
        if (equal(reader.letters(), utf8("kind"))) tag = reader.text();
        else reader.skip();
      }
      return reader.at === body.length ? tag : "";
    } catch {
      return "";
    }
  }

  // The encoding of an entry with 0 as its time, which is its last field and begins at `start`.
  function timeless(body, start) {
    const bytes = new Uint8Array(start + 1);
    bytes.set(body.subarray(0, start));
    return bytes;
  }

  return { decode, KINDS, FORMAT, MAX_RECORD };
});
