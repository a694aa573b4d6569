// Uniform numbers from a seed (docs/SPEC.md, 2.4).
podltVerify.define("dice", function (use) {
  "use strict";
  const { digest } = use("sha256");
  const { u64 } = use("bytes");
  const WORD = 2 ** 32;

  class Dice {
    constructor(seed) {
      this.seed = seed;
      this.block = null;
      this.blocks = 0;
      this.next = 4;
    }

    // A number in 0 .. n - 1, for n up to 2^21: so that the products below are exact.
    below(n) {
      const half = WORD % n;
      const over = (half * half) % n; // 2^64 mod n: words from 2^64 - over on are thrown away
      for (;;) {
        if (this.next === 4) {
          const bytes = digest("dice/1", this.seed, u64(this.blocks));
          this.block = new DataView(bytes.buffer);
          this.blocks += 1;
          this.next = 0;
        }
        const high = this.block.getUint32(8 * this.next);
        const low = this.block.getUint32(8 * this.next + 4);
        this.next += 1;
        if (high === WORD - 1 && low >= WORD - over) continue;
        return ((high % n) * half + low) % n;
      }
    }

    // The first k places of a permutation of 0 .. n - 1; only places that were swapped are remembered.
    sample(n, k) {
      const moved = new Map();
      const drawn = [];
      for (let i = 0; i < k; i++) {
        const j = i + this.below(n - i);
        drawn.push(moved.get(j) ?? j);
        moved.set(j, moved.get(i) ?? i);
      }
      return drawn;
    }
  }

  return { Dice };
});
