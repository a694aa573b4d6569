// SHA-256 (FIPS 180-4), and the digests of docs/SPEC.md, 2.1.
//
// WebCrypto's is the same function, but answers later, and each call costs more than the few blocks that a digest here
// is of; the rules are easier to read where they need not wait. The tests hold it against WebCrypto's.
podltVerify.define("sha256", function (use) {
  "use strict";
  const { u64 } = use("bytes");
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime)) primes.push(n);
  const fraction = (root) => Math.floor((root - Math.floor(root)) * 2 ** 32) | 0;
  const START = Int32Array.from(primes.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
  const K = Int32Array.from(primes, (prime) => fraction(exactCubeRoot(prime)));
  const W = new Int32Array(64);

  function exactCubeRoot(prime) {
    const root = Math.cbrt(prime);
    return root - (root * root * root - prime) / (3 * root * root); // one step of Newton's, whatever cbrt rounds
  }

  function compress(state, data, at) {
    for (let i = 0; i < 16; i++, at += 4) {
      W[i] = (data[at] << 24) | (data[at + 1] << 16) | (data[at + 2] << 8) | data[at + 3];
    }
    for (let i = 16; i < 64; i++) {
      const x = W[i - 15];
      const y = W[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      W[i] = (W[i - 16] + s0 + W[i - 7] + s1) | 0;
    }
    let a = state[0], b = state[1], c = state[2], d = state[3];
    let e = state[4], f = state[5], g = state[6], h = state[7];
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + W[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + t1) | 0;
      d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    state[0] += a; state[1] += b; state[2] += c; state[3] += d;
    state[4] += e; state[5] += f; state[6] += g; state[7] += h;
  }

  const tail = new Uint8Array(128);
  const state = new Int32Array(8);

  // SHA-256 of the first `size` bytes of a buffer, with one byte before them if `prefix` is not negative.
  function hashOf(data, size, prefix) {
    state.set(START);
    let at = 0;
    let total = size;
    tail.fill(0);
    let kept = 0;
    if (prefix >= 0) {
      total += 1;
      tail[0] = prefix;
      kept = Math.min(size, 63);
      tail.set(data.subarray(0, kept), 1);
      at = kept;
      kept += 1;
      if (kept === 64) {
        compress(state, tail, 0);
        tail.fill(0);
        kept = 0;
      }
    }
    if (kept === 0) {
      for (; at + 64 <= size; at += 64) compress(state, data, at);
      kept = size - at;
      tail.set(data.subarray(at, size), 0);
    }
    tail[kept] = 0x80;
    const end = kept < 56 ? 64 : 128;
    const bits = total * 8;
    for (let i = 1, left = bits; i <= 8; i++, left = Math.floor(left / 256)) tail[end - i] = left % 256;
    compress(state, tail, 0);
    if (end === 128) compress(state, tail, 64);
    const out = new Uint8Array(32);
    for (let i = 0; i < 8; i++) {
      const word = state[i];
      out[4 * i] = word >>> 24;
      out[4 * i + 1] = word >>> 16;
      out[4 * i + 2] = word >>> 8;
      out[4 * i + 3] = word;
    }
    return out;
  }

  const sha256 = (data) => hashOf(data, data.length, -1);
  const prefixed = (prefix, data) => hashOf(data, data.length, prefix);

  let scratch = new Uint8Array(2048);
  const names = new Map();

  function nameOf(domain) {
    let name = names.get(domain);
    if (!name) {
      const letters = new TextEncoder().encode(`podlt/${domain}`);
      name = new Uint8Array(letters.length + 1);
      name[0] = letters.length;
      name.set(letters, 1);
      names.set(domain, name);
    }
    return name;
  }

  // docs/SPEC.md, 2.1
  function digest(domain, ...parts) {
    const name = nameOf(domain);
    let size = name.length;
    for (const part of parts) size += 8 + part.length;
    if (size > scratch.length) scratch = new Uint8Array(2 * size);
    scratch.set(name, 0);
    let at = name.length;
    for (const part of parts) {
      if (part.length < 256) {
        scratch.fill(0, at, at + 7);
        scratch[at + 7] = part.length;
      } else {
        scratch.set(u64(part.length), at);
      }
      scratch.set(part, at + 8);
      at += 8 + part.length;
    }
    return hashOf(scratch, size, -1);
  }

  // As `digest`, where the parts are many.
  const digestAll = (domain, parts) => digest.apply(null, [domain, ...parts]);

  return { sha256, prefixed, digest, digestAll };
});
