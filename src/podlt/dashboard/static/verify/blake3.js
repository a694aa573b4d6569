// BLAKE3 (github.com/BLAKE3-team/BLAKE3-specs), 32 bytes of output: the digest of a model's parameters.
podltVerify.define("blake3", function () {
  "use strict";
  const IV = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19].map((x) => x | 0);
  const PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
  const ORDER = new Uint8Array(7 * 16);
  for (let i = 0; i < 16; i++) ORDER[i] = i;
  for (let i = 16; i < ORDER.length; i++) ORDER[i] = ORDER[i - 16 - (i % 16) + PERMUTATION[i % 16]];
  const CHUNK_START = 1;
  const CHUNK_END = 2;
  const PARENT = 4;
  const ROOT = 8;
  const BLOCK = 64;
  const CHUNK = 1024;
  const V = new Int32Array(16);
  const M = new Int32Array(16);

  function mix(a, b, c, d, x, y) {
    let va = V[a], vb = V[b], vc = V[c], vd = V[d];
    va = (va + vb + x) | 0;
    vd ^= va;
    vd = (vd >>> 16) | (vd << 16);
    vc = (vc + vd) | 0;
    vb ^= vc;
    vb = (vb >>> 12) | (vb << 20);
    va = (va + vb + y) | 0;
    vd ^= va;
    vd = (vd >>> 8) | (vd << 24);
    vc = (vc + vd) | 0;
    vb ^= vc;
    V[a] = va;
    V[b] = (vb >>> 7) | (vb << 25);
    V[c] = vc;
    V[d] = vd;
  }

  // Compresses the block in M into a chaining value of eight words.
  function compress(chain, counter, length, flags) {
    for (let i = 0; i < 8; i++) V[i] = chain[i];
    for (let i = 0; i < 4; i++) V[8 + i] = IV[i];
    V[12] = counter | 0;
    V[13] = Math.floor(counter / 2 ** 32) | 0;
    V[14] = length;
    V[15] = flags;
    for (let r = 0; r < 7 * 16; r += 16) {
      mix(0, 4, 8, 12, M[ORDER[r]], M[ORDER[r + 1]]);
      mix(1, 5, 9, 13, M[ORDER[r + 2]], M[ORDER[r + 3]]);
      mix(2, 6, 10, 14, M[ORDER[r + 4]], M[ORDER[r + 5]]);
      mix(3, 7, 11, 15, M[ORDER[r + 6]], M[ORDER[r + 7]]);
      mix(0, 5, 10, 15, M[ORDER[r + 8]], M[ORDER[r + 9]]);
      mix(1, 6, 11, 12, M[ORDER[r + 10]], M[ORDER[r + 11]]);
      mix(2, 7, 8, 13, M[ORDER[r + 12]], M[ORDER[r + 13]]);
      mix(3, 4, 9, 14, M[ORDER[r + 14]], M[ORDER[r + 15]]);
    }
    const out = new Int32Array(8);
    for (let i = 0; i < 8; i++) out[i] = V[i] ^ V[i + 8];
    return out;
  }

  function load(data, at, size) {
    for (let i = 0; i < 16; i++, at += 4, size -= 4) {
      if (size >= 4) M[i] = data[at] | (data[at + 1] << 8) | (data[at + 2] << 16) | (data[at + 3] << 24);
      else M[i] = size <= 0 ? 0 : data[at] | (size > 1 ? data[at + 1] << 8 : 0) | (size > 2 ? data[at + 2] << 16 : 0);
    }
  }

  // The chaining value of a chunk of up to 1,024 bytes.
  function chunkOf(data, at, size, counter, root) {
    let chain = IV;
    let flags = CHUNK_START;
    for (;;) {
      const last = size <= BLOCK;
      load(data, at, size);
      if (last) return compress(chain, counter, Math.max(size, 0), flags | CHUNK_END | root);
      chain = compress(chain, counter, BLOCK, flags);
      flags = 0;
      at += BLOCK;
      size -= BLOCK;
    }
  }

  function parentOf(left, right, root) {
    M.set(left, 0);
    M.set(right, 8);
    return compress(IV, 0, BLOCK, PARENT | root);
  }

  class Blake3 {
    constructor() {
      this.kept = new Uint8Array(CHUNK); // the chunk that is not full, or may be the last
      this.size = 0;
      this.chunks = 0;
      this.subtrees = []; // the roots of whole subtrees, the largest first
    }

    update(data) {
      for (let at = 0; at < data.length; ) {
        if (this.size === CHUNK) this.close();
        if (this.size === 0 && data.length - at > CHUNK) {
          this.add(chunkOf(data, at, CHUNK, this.chunks, 0));
          at += CHUNK;
          continue;
        }
        const more = Math.min(CHUNK - this.size, data.length - at);
        this.kept.set(data.subarray(at, at + more), this.size);
        this.size += more;
        at += more;
      }
      return this;
    }

    close() {
      this.add(chunkOf(this.kept, 0, CHUNK, this.chunks, 0));
      this.size = 0;
    }

    add(chain) {
      this.chunks += 1;
      for (let left = this.chunks; left % 2 === 0; left /= 2) chain = parentOf(this.subtrees.pop(), chain, 0);
      this.subtrees.push(chain);
    }

    digest() {
      const alone = !this.subtrees.length;
      let chain = chunkOf(this.kept, 0, this.size, this.chunks, alone ? ROOT : 0);
      for (let i = this.subtrees.length - 1; i >= 0; i--) chain = parentOf(this.subtrees[i], chain, i ? 0 : ROOT);
      const out = new Uint8Array(32);
      const view = new DataView(out.buffer);
      chain.forEach((word, i) => view.setInt32(4 * i, word, true));
      return out;
    }
  }

  return { Blake3 };
});
