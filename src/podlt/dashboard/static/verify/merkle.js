// The Merkle tree of RFC 6962, section 2.1 (docs/SPEC.md, 5.1): the root as it grows, and the path of a leaf.
podltVerify.define("merkle", function (use) {
  "use strict";
  const { sha256, prefixed } = use("sha256");
  const EMPTY_ROOT = sha256(new Uint8Array(0));
  const pair = new Uint8Array(64);

  const leafHash = (entry) => prefixed(0, entry);

  function nodeHash(left, right) {
    pair.set(left, 0);
    pair.set(right, 32);
    return prefixed(1, pair);
  }

  // The roots of the whole subtrees, the largest first.
  class Tree {
    constructor() {
      this.size = 0;
      this.peaks = [];
    }

    append(leaf) {
      this.size += 1;
      for (let left = this.size; left % 2 === 0; left /= 2) leaf = nodeHash(this.peaks.pop(), leaf);
      this.peaks.push(leaf);
    }

    root() {
      if (!this.peaks.length) return EMPTY_ROOT;
      return this.peaks.slice(0, -1).reduceRight((root, peak) => nodeHash(peak, root), this.peaks[this.peaks.length - 1]);
    }
  }

  // All leaf hashes, one after another, for the paths that a reader asks for later.
  class Leaves {
    constructor() {
      this.size = 0;
      this.data = new Uint8Array(32 * 1024);
    }

    push(leaf) {
      if (32 * this.size === this.data.length) {
        const more = new Uint8Array(2 * this.data.length);
        more.set(this.data);
        this.data = more;
      }
      this.data.set(leaf, 32 * this.size);
      this.size += 1;
    }

    at(index) {
      return this.data.subarray(32 * index, 32 * index + 32);
    }

    rootOf(first, end) {
      const tree = new Tree();
      for (let i = first; i < end; i++) tree.append(this.at(i));
      return tree.root();
    }

    // The audit path of a leaf in the tree over the first `size`, from the leaf's sibling up: RFC 6962, section 2.1.1.
    path(index, size = this.size) {
      const steps = [];
      let first = 0;
      let end = size;
      while (end - first > 1) {
        let middle = 1;
        while (2 * middle < end - first) middle *= 2;
        middle += first;
        const left = index >= middle; // whether the sibling is on the left
        steps.push({ hash: left ? this.rootOf(first, middle) : this.rootOf(middle, end), left });
        if (left) first = middle;
        else end = middle;
      }
      return steps.reverse();
    }
  }

  // The root that a path leads to.
  function climb(leaf, path) {
    return path.reduce((node, { hash, left }) => (left ? nodeHash(hash, node) : nodeHash(node, hash)), leaf);
  }

  return { EMPTY_ROOT, leafHash, nodeHash, Tree, Leaves, climb };
});
