// Claim 28: the witnesses that the reader names cosigned the log, up to its last head. docs/SPEC.md, 5.6.
podltVerify.define("witnesses", function (use) {
  "use strict";
  const { CLAIM, FAILS, HOLDS, Misuse, NOT_CHECKED, finding } = use("claims");
  const { concat, decodeBase64, equal, fromBase64, hex, utf8 } = use("bytes");
  const { sha256 } = use("sha256");
  const { holds } = use("ed25519");
  const NAME = /^[^\s+]{1,200}$/u;
  const LINE = /^(0|[1-9][0-9]{0,18}) ([A-Za-z0-9+/]{43}=) ([^\s+]{1,200}) ([A-Za-z0-9+/]{8,5000}={0,2})$/u;
  const COSIGNATURE = 4; // the type of a key that cosigns by Ed25519
  const grouped = (number) => use("report").grouped(number);

  // A witness by its verifier key, NAME+ID+KEY. Raises Misuse where it is none.
  function readKey(text) {
    const [name, id, ...rest] = text.trim().split("+");
    const raw = decodeBase64(rest.join("+")) ?? new Uint8Array(0);
    const fits = NAME.test(name) && raw.length === 33 && raw[0] === COSIGNATURE;
    if (!fits) throw new Misuse("malformed witness key: expected NAME+ID+KEY, as podlt witness prints it");
    const keyId = sha256(concat(utf8(name), Uint8Array.from([0x0a]), raw)).subarray(0, 4);
    if (hex(keyId) !== id) throw new Misuse("malformed witness key: its identifier is of another key: copied with a mistake");
    return { name, keyId, key: raw.subarray(1) };
  }

  // A line of the cosignatures that come with a run; null if it is none.
  function parseLine(line) {
    const match = LINE.exec(line);
    const root = match && fromBase64(match[2]);
    const blob = match && decodeBase64(match[4]);
    if (!root || !blob || blob.length <= 4) return null;
    return { size: match[1], encoded: match[2], root, name: match[3], keyId: blob.subarray(0, 4), signature: blob.subarray(4) };
  }

  // When a witness cosigned a head, in seconds since 1970; null if it did not.
  async function cosignedAt({ name, keyId, key }, line, origin) {
    if (line.name !== name || !equal(line.keyId, keyId) || line.signature.length !== 8 + 64) return null;
    const at = new DataView(line.signature.buffer, line.signature.byteOffset).getBigUint64(0);
    const text = `cosignature/v1\ntime ${at}\n${origin}\n${line.size}\n${line.encoded}\n`;
    return at < 2n ** 63n && (await holds(key, utf8(text), line.signature.subarray(8))) ? at : null;
  }

  function utcText(seconds) {
    if (seconds >= 2_932_897n * 86_400n) return `second ${seconds} since 1970`; // from the year 10,000 on
    return `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
  }

  // Heads that witnesses saw, compared with a log while it is read.
  class SeenHeads {
    constructor() {
      this.seen = []; // [witness, heads, when it cosigned last]
      this.wanted = new Set();
      this.roots = new Map();
    }

    static async of(witnesses, raw, origin) {
      const found = new SeenHeads();
      const lines = new TextDecoder().decode(raw).split("\n").map(parseLine).filter((line) => line);
      for (const witness of witnesses) {
        const heads = [];
        let last = 0n;
        for (const line of lines) {
          const at = await cosignedAt(witness, line, origin);
          if (at === null) continue;
          heads.push({ size: Number(line.size), root: line.root });
          if (at > last) last = at;
          found.wanted.add(Number(line.size));
        }
        found.seen.push([witness, heads, last]);
      }
      return found;
    }

    // Remembers the log's own root where a witness saw one.
    reach(tree) {
      if (this.wanted.has(tree.size)) this.roots.set(tree.size, tree.root());
    }

    // named: the keys of the witnesses that the recipe names.
    finding(demanded, named, size, logHolds) {
      const claim = CLAIM.WITNESSES;
      if (!demanded.length) {
        const why = `no witness was named${named.length ? ": the recipe names some, of the manager's choice" : ""}`;
        return finding(claim, NOT_CHECKED, { why, remedy: `--witness ${named[0] ?? "KEY"}`, asked: false });
      }
      for (const [{ name }, heads] of this.seen) {
        const why = this.faultOf(name, heads, size, logHolds);
        if (why) return finding(claim, FAILS, { why });
      }
      if (!logHolds) return finding(claim, NOT_CHECKED, { why: "the log was not read to its end" });
      const late = this.seen.map(([{ name }, heads]) => missingOf(name, heads, size)).filter((why) => why);
      if (late.length) return finding(claim, NOT_CHECKED, { why: late.join("; "), remedy: "podlt witness ask RUN" });
      const seen = this.seen.map(([{ name }, , at]) => `${name}, ${utcText(at)}`).join("; ");
      return finding(claim, HOLDS, { figure: `all ${grouped(size)} entries: ${seen}` });
    }

    // What a witness saw that this log does not have; "" if there is nothing.
    faultOf(name, heads, size, logHolds) {
      for (const head of heads) {
        const own = this.roots.get(head.size);
        if (own && !equal(own, head.root)) {
          const theirs = `over ${grouped(head.size)} entries it cosigned the root ${hex(head.root)}`;
          return `witness ${name} saw another log of this run: ${theirs}, this log has ${hex(own)}`;
        }
        if (!own && head.size > size && logHolds) {
          return `witness ${name} saw ${grouped(head.size)} entries, this log has ${grouped(size)}: it was cut`;
        }
      }
      return "";
    }
  }

  // Why a witness does not vouch for all of the log; "" if it does.
  function missingOf(name, heads, size) {
    const newest = Math.max(0, ...heads.map((head) => head.size));
    if (newest === size) return "";
    return newest ? `${name} saw ${grouped(newest)} of ${grouped(size)} entries` : `no cosignature of ${name} is here`;
  }

  return { SeenHeads, readKey };
});
