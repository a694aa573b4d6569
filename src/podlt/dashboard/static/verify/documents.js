// Documents: JSON in its one encoding (docs/SPEC.md, 1.3), which is that of Python's json module with sorted keys.
//
// JSON.parse would forget what tells one encoding from another: the order of keys, 1 from 1.0, escapes, long integers.
// Integers become BigInts, floats Numbers, objects Maps.
podltVerify.define("documents", function (use) {
  "use strict";
  const { text } = use("bytes");
  const MAX_DOCUMENT = 16 * 2 ** 20;
  const MAX_DEPTH = 900;
  const MAX_DIGITS = 4300; // as many as Python reads
  const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/y;
  const PLAIN = /[^"\\\u0000-\u001f]*/y;
  const ESCAPES = { '"': '"', "\\": "\\", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

  class NoDocument extends Error {}

  function refuse(what) {
    throw new NoDocument(what);
  }

  // Whether a text comes before another, by code points.
  function isBefore(a, b) {
    const one = [...a];
    const two = [...b];
    for (let i = 0; i < one.length && i < two.length; i++) {
      if (one[i] !== two[i]) return one[i].codePointAt(0) < two[i].codePointAt(0);
    }
    return one.length < two.length;
  }

  // A float as Python writes it: the shortest digits that give it back, an exponent below 1e-4 and from 1e16 on.
  function floatText(value) {
    const [, sign, first, rest = "", exponent] = /^(-?)(\d)(?:\.(\d+))?e([-+]\d+)$/.exec(
      Object.is(value, -0) ? "-0e+0" : value.toExponential(),
    );
    const digits = first + rest;
    const point = Number(exponent) + 1;
    if (point <= -4 || point > 16) {
      const size = Math.abs(point - 1);
      return `${sign}${first}${rest ? "." + rest : ""}e${point > 0 ? "+" : "-"}${String(size).padStart(2, "0")}`;
    }
    if (point <= 0) return `${sign}0.${"0".repeat(-point)}${digits}`;
    return `${sign}${digits.slice(0, point).padEnd(point, "0")}.${digits.slice(point) || "0"}`;
  }

  class Parser {
    constructor(source) {
      this.source = source;
      this.at = 0;
    }

    expect(letters) {
      if (!this.source.startsWith(letters, this.at)) refuse(`expected ${letters} at character ${this.at}`);
      this.at += letters.length;
    }

    value(depth) {
      if (depth > MAX_DEPTH) refuse("too deep");
      switch (this.source[this.at]) {
        case "{": return this.object(depth);
        case "[": return this.array(depth);
        case '"': return this.string();
        case "t": this.expect("true"); return true;
        case "f": this.expect("false"); return false;
        case "n": this.expect("null"); return null;
        default: return this.number();
      }
    }

    object(depth) {
      const found = new Map();
      let before = null;
      this.expect("{");
      while (this.source[this.at] !== "}") {
        if (found.size) this.expect(",");
        const name = this.string();
        if (before !== null && !isBefore(before, name)) refuse("keys are not sorted");
        before = name;
        this.expect(":");
        found.set(name, this.value(depth + 1));
        if (this.at >= this.source.length) refuse("it is cut off");
      }
      this.at += 1;
      return found;
    }

    array(depth) {
      const found = [];
      this.expect("[");
      while (this.source[this.at] !== "]") {
        if (found.length) this.expect(",");
        found.push(this.value(depth + 1));
        if (this.at >= this.source.length) refuse("it is cut off");
      }
      this.at += 1;
      return found;
    }

    string() {
      this.expect('"');
      let found = "";
      for (;;) {
        PLAIN.lastIndex = this.at;
        const [plain] = PLAIN.exec(this.source);
        found += plain;
        this.at += plain.length;
        if (this.source[this.at] === '"') break;
        this.expect("\\");
        found += this.escape();
      }
      this.at += 1;
      return found;
    }

    escape() {
      const letter = this.source[this.at++];
      if (letter !== "u") return ESCAPES[letter] ?? refuse("an escape that JSON does not require");
      const digits = this.source.slice(this.at, this.at + 4);
      const code = /^00[01][0-9a-f]$/.test(digits) ? parseInt(digits, 16) : -1;
      if (code < 0 || "\b\f\n\r\t".includes(String.fromCharCode(code))) refuse("an escape that JSON does not require");
      this.at += 4;
      return String.fromCharCode(code);
    }

    number() {
      NUMBER.lastIndex = this.at;
      const [found] = NUMBER.exec(this.source) ?? refuse(`no value at character ${this.at}`);
      this.at += found.length;
      if (/^-?[0-9]+$/.test(found)) {
        if (found === "-0" || found.length > MAX_DIGITS) refuse("a number is not in its one encoding");
        return BigInt(found);
      }
      const value = Number(found);
      if (!Number.isFinite(value) || floatText(value) !== found) refuse("a number is not in its one encoding");
      return value;
    }
  }

  // The document in bytes; undefined if they are not the one encoding of any.
  function parse(raw) {
    const source = raw.length <= MAX_DOCUMENT ? text(raw) : null;
    if (source === null) return undefined;
    try {
      const parser = new Parser(source);
      const found = parser.value(0);
      return parser.at === source.length ? found : undefined;
    } catch (error) {
      if (error instanceof NoDocument) return undefined;
      throw error;
    }
  }

  return { parse, isBefore, floatText, isTable: (value) => value instanceof Map, MAX_DOCUMENT };
});
