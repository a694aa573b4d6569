// MessagePack in its one encoding (docs/SPEC.md, 1.1 and 1.2): what is not in its shortest form is refused, a length is
// held against what is left before anything is made of it, and bytes are not copied.
podltVerify.define("msgpack", function (use) {
  "use strict";
  const { Broken, CLAIM } = use("claims");
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const MOST = 2n ** 63n - 1n;

  function refuse(what) {
    throw new Broken(CLAIM.FORM, `malformed record: ${what}`);
  }

  // isStrict: whether lengths that are not in their shortest form are refused.
  class Reader {
    constructor(data, isStrict = true) {
      this.isStrict = isStrict;
      this.data = data;
      this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
      this.at = 0;
    }

    byte() {
      if (this.at >= this.data.length) refuse("it is cut off");
      return this.data[this.at++];
    }

    // Where the next `size` bytes begin.
    take(size) {
      if (size > this.data.length - this.at) refuse("it is cut off");
      this.at += size;
      return this.at - size;
    }

    // A number of 0 .. 2^63 - 1: a Number, or a BigInt where it is 2^53 or more.
    unsigned() {
      const head = this.byte();
      if (head < 0x80) return head;
      let value;
      let least;
      if (head === 0xcc) [value, least] = [this.data[this.take(1)], 0x80];
      else if (head === 0xcd) [value, least] = [this.view.getUint16(this.take(2)), 0x100];
      else if (head === 0xce) [value, least] = [this.view.getUint32(this.take(4)), 0x10000];
      else if (head === 0xcf) [value, least] = [this.view.getBigUint64(this.take(8)), 0x100000000n];
      else refuse("expected a number of 0 or more");
      if (value < least) refuse("a number is not in its shortest form");
      if (typeof value !== "bigint") return value;
      if (value > MOST) refuse("a number is out of its range");
      return value < 2n ** 53n ? Number(value) : value;
    }

    // As `unsigned`, or a number of -2^7 .. -1.
    small() {
      const head = this.data[this.at];
      if (head < 0xe0 && head !== 0xd0) return this.unsigned();
      this.at += 1;
      if (head >= 0xe0) return head - 0x100;
      const value = this.view.getInt8(this.take(1));
      if (value >= -32) refuse("a number is not in its shortest form");
      return value;
    }

    float() {
      if (this.byte() !== 0xcb) refuse("expected a float of 64 bits");
      return this.view.getFloat64(this.take(8));
    }

    // A length whose head is one of these bytes: of 1, 2 and 4 bytes; `small` says which heads hold it themselves.
    length(what, small, most, one, two, four) {
      const head = this.byte();
      if (head >= small && head <= small + most) return head - small;
      let size;
      let least = most + 1;
      if (head === one) {
        size = this.data[this.take(1)];
      } else if (head === two) {
        size = this.view.getUint16(this.take(2));
        if (one >= 0) least = 0x100;
      } else if (head === four) {
        size = this.view.getUint32(this.take(4));
        least = 0x10000;
      } else {
        refuse(`expected ${what}`);
      }
      if (this.isStrict && size < least) refuse("a length is not in its shortest form");
      if (size > this.data.length - this.at) refuse("it is cut off");
      return size;
    }

    list() {
      return this.length("a list", 0x90, 15, -1, 0xdc, 0xdd);
    }

    map() {
      return this.length("a map", 0x80, 15, -1, 0xde, 0xdf);
    }

    bytes() {
      const size = this.length("bytes", 0x100, -1, 0xc4, 0xc5, 0xc6);
      const start = this.take(size);
      return this.data.subarray(start, start + size);
    }

    // The bytes of a text.
    letters() {
      const size = this.length("a text", 0xa0, 31, 0xd9, 0xda, 0xdb);
      const start = this.take(size);
      return this.data.subarray(start, start + size);
    }

    text() {
      const letters = this.letters();
      try {
        return utf8.decode(letters);
      } catch {
        return refuse("a text is no UTF-8");
      }
    }

    // Reads over one value of any kind, and whatever is in it.
    skip() {
      for (let left = 1; left > 0; left--) {
        const head = this.byte();
        if (head < 0x80 || head >= 0xe0) continue;
        if (head < 0x90) left += 2 * (head - 0x80);
        else if (head < 0xa0) left += head - 0x90;
        else if (head < 0xc0) this.take(head - 0xa0);
        else if (head === 0xc1) refuse("no such type");
        else left += this.skipLong(head);
      }
    }

    // The rest of a value whose head is 0xc0 or more; how many values follow that are in it.
    skipLong(head) {
      const fixed = FIXED[head];
      if (fixed !== undefined) {
        this.take(fixed);
        return 0;
      }
      const [width, extra] = SIZED[head];
      const start = this.take(width);
      const size = width === 1 ? this.data[start] : width === 2 ? this.view.getUint16(start) : this.view.getUint32(start);
      if (head === 0xdc || head === 0xdd) return size;
      if (head === 0xde || head === 0xdf) return 2 * size;
      this.take(size + extra);
      return 0;
    }
  }

  // Bytes after a head whose length is its own: nil, booleans, floats, integers, extensions of fixed length.
  const FIXED = {
    0xc0: 0, 0xc2: 0, 0xc3: 0, 0xca: 4, 0xcb: 8, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8, 0xd0: 1, 0xd1: 2, 0xd2: 4,
    0xd3: 8, 0xd4: 2, 0xd5: 3, 0xd6: 5, 0xd7: 9, 0xd8: 17,
  };
  // Bytes of the length after any other head, and bytes besides those that it counts.
  const SIZED = {
    0xc4: [1, 0], 0xc5: [2, 0], 0xc6: [4, 0], 0xc7: [1, 1], 0xc8: [2, 1], 0xc9: [4, 1], 0xd9: [1, 0], 0xda: [2, 0],
    0xdb: [4, 0], 0xdc: [2, 0], 0xdd: [4, 0], 0xde: [2, 0], 0xdf: [4, 0],
  };

  return { Reader, refuse };
});
