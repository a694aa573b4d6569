// Bundles (docs/SPEC.md, 5.5): an uncompressed tar in one encoding. Every byte of it is checked; sizes are held against
// what the file has before anything is read.
podltVerify.define("bundle", function (use) {
  "use strict";
  const { Broken, Misuse, CLAIM } = use("claims");
  const { equal, text, utf8 } = use("bytes");
  const { Section } = use("blobs");
  const { MAX_RECORD } = use("entries");
  const { MAX_NOTE } = use("notes");
  const { MAX_DOCUMENT } = use("documents");
  const BLOCK = 512;
  const MAX_NAME = 100;
  const OCTAL_SIZES = 8 ** 11;
  const NOTE_LINES = 5;
  const FORMAT = "podlt-bundle/1\n";
  const FORMAT_NAME = "podlt-bundle";
  const ORDER = [
    "podlt-bundle", "log/entries", "log/heads", "log/cosignatures", "recipe.json", "program.json", "model.safetensors",
    "buffers.safetensors", "unproven/rounds.jsonl", "unproven/cheats.json", "checkpoints/00000000.safetensors",
  ];
  const NUMBERED = ["updates", "aggregates"]; // the folders of members of rounds, in their order
  const REQUIRED = ORDER.slice(0, 3);
  const PLAIN = /^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*){0,4}$/;

  function refuse(reason, entry = null) {
    throw new Broken(CLAIM.FORM, reason, entry);
  }

  // The one header of a member.
  function header(name, size) {
    const block = new Uint8Array(BLOCK);
    const write = (at, letters) => block.set(utf8(letters), at);
    write(0, name);
    write(100, "0000644\0" + "0000000\0" + "0000000\0");
    if (size < OCTAL_SIZES) {
      write(124, `${size.toString(8).padStart(11, "0")}\0`);
    } else {
      block[124] = 0x80;
      for (let i = 135, left = size; i > 124 && left > 0; i--, left = Math.floor(left / 256)) block[i] = left % 256;
    }
    write(136, "00000000000\0" + " ".repeat(8) + "0");
    write(257, "ustar\0" + "00");
    write(329, "0000000\0" + "0000000\0");
    const sum = block.reduce((all, byte) => all + byte, 0);
    write(148, `${sum.toString(8).padStart(6, "0")}\0 `);
    return block;
  }

  function named(block, position) {
    if (block.length < BLOCK) refuse(`the bundle is cut off at byte ${position + block.length}`);
    let end = MAX_NAME;
    while (end > 0 && block[end - 1] === 0) end -= 1;
    const name = text(block.subarray(0, end)) ?? "";
    const octal = /^[0-7]{11}$/.exec(text(block.subarray(124, 135)) ?? "");
    const large = block.subarray(125, 136).reduce((all, byte) => all * 256 + byte, 0);
    const size = block[124] === 0x80 ? large : octal ? parseInt(octal[0], 8) : -1;
    const canonical = name.length <= MAX_NAME && PLAIN.test(name) && size >= 0 && Number.isSafeInteger(size);
    if (!canonical || !equal(header(name, size), block)) {
      refuse(`the header at byte ${position} of the bundle is not in its one encoding`);
    }
    return { name, size };
  }

  function placeOf(name) {
    const rank = ORDER.indexOf(name);
    if (rank >= 0) return rank;
    const found = /^(updates|aggregates)\/([0-9]{8})\.bin$/.exec(name);
    const kind = found ? NUMBERED.indexOf(found[1]) : 0;
    return found ? ORDER.length + kind * 10 ** 8 + Number(found[2]) : refuse(`'${name}': no bundle has a member of this name`);
  }

  class Bundle {
    constructor(blob, parts) {
      this.blob = blob;
      this.parts = parts;
    }

    // Raises Broken (FORM): it is not in its one encoding, or was cut off; Misuse: it does not look like a bundle at all.
    static async open(blob) {
      const start = new Uint8Array(await blob.slice(0, BLOCK + FORMAT_NAME.length).arrayBuffer());
      const places = [start.subarray(0, FORMAT_NAME.length), start.subarray(BLOCK)];
      if (!places.some((place) => text(place) === FORMAT_NAME)) throw new Misuse("this file is no bundle: expected one that podlt bundle RUN wrote");
      const whole = new Section(blob, 0, blob.size);
      const parts = new Map();
      let before = -1;
      for (;;) {
        const position = whole.position;
        const block = await whole.read(BLOCK);
        if (block.length === BLOCK && block.every((byte) => byte === 0)) break;
        const { name, size } = named(block, position);
        if (size > whole.left) refuse(`${name}: the bundle is cut off (expected ${size}, got ${whole.left})`);
        const place = placeOf(name);
        if (place <= before) refuse(`${name}: twice in the bundle, or not in its place`);
        before = place;
        const part = new Section(blob, whole.position, size);
        parts.set(name, part);
        if (name === "podlt-bundle" && (size !== FORMAT.length || text(await part.read(size)) !== FORMAT)) {
          refuse("bundle of another format");
        }
        whole.seek(whole.position + size);
        const padding = (BLOCK - (size % BLOCK)) % BLOCK;
        const zeros = await whole.read(padding);
        if (zeros.length < padding || zeros.some((byte) => byte !== 0)) {
          refuse(`${name}: the bundle has other bytes than zeros after it`);
        }
      }
      const end = await whole.read(2 * BLOCK);
      if (end.length !== BLOCK || end.some((byte) => byte !== 0)) refuse("the bundle does not end after two zero blocks");
      const missing = REQUIRED.filter((name) => !parts.has(name));
      if (missing.length) refuse(`${missing.join(", ")}: missing in the bundle`);
      return new Bundle(blob, parts);
    }

    // A member, read from its start; null if the bundle has none of this name.
    member(name) {
      const part = this.parts.get(name);
      return part ? new Section(this.blob, part.offset, part.size) : null;
    }

    // A whole member that is not long; null if the bundle has none of this name.
    async document(name, most = MAX_DOCUMENT) {
      const part = this.member(name);
      if (part && part.size > most) throw new Error(`${name}: longer than ${most} bytes`);
      return part && part.read(part.size);
    }

    entries() {
      return new EntryReader(this.member("log/entries"));
    }

    heads() {
      return new HeadReader(this.member("log/heads"));
    }
  }

  // The entries, one after another.
  class EntryReader {
    constructor(part) {
      this.part = part;
      this.number = 0;
    }

    // The next entry's bytes; null after the last.
    async next() {
      const { part, number } = this;
      if (!part.left) return null;
      const head = await part.read(4);
      const size = head.length < 4 ? 0 : new DataView(head.buffer, head.byteOffset).getUint32(0);
      if (size > MAX_RECORD) refuse(`longer than ${MAX_RECORD} bytes`, number);
      if (head.length < 4 || size > part.left) refuse("the entry is cut off", number);
      this.number += 1;
      return part.read(size);
    }
  }

  // The tree heads, ascending by size.
  class HeadReader {
    constructor(part) {
      this.part = part;
      this.size = 0;
    }

    // The next head: { size, note }; null after the last.
    async next() {
      const found = await this.part.peek(2 * MAX_NOTE);
      if (!found.length) return null;
      const ends = [];
      for (let i = found.indexOf(10); i >= 0 && ends.length < NOTE_LINES; i = found.indexOf(10, i + 1)) ends.push(i + 1);
      const said = ends.length === NOTE_LINES ? text(found.subarray(ends[0], ends[1] - 1)) : null;
      if (said === null || !/^(0|[1-9][0-9]{0,18})$/.test(said)) {
        refuse(`the tree head after that over ${this.size} entries is malformed`);
      }
      const size = Number(said);
      if (size <= this.size) refuse(`tree heads out of order (expected ${this.size + 1}, got ${said})`);
      const note = text(await this.part.read(ends[NOTE_LINES - 1]));
      if (note === null) refuse(`the tree head over ${size} entries is no text`);
      this.size = size;
      return { size, note };
    }
  }

  return { Bundle, header, placeOf };
});
