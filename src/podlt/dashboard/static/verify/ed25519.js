// Ed25519 by libsodium's rules (docs/SPEC.md, 2.2): WebCrypto works out the equation, and what implementations differ in
// (keys of small order, second encodings) is refused before.
podltVerify.define("ed25519", function (use) {
  "use strict";
  const { equal, fromHex, latin1 } = use("bytes");

  // The y of all points of small order, but for those of 2^255 - 19 and above, which are not canonical.
  const SMALL = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  ].map(fromHex);
  const ORDER = fromHex("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed");
  const MOST_KEYS = 2 ** 16;

  // Whether 32 bytes can be a key or an R: canonical, and not of small order.
  function isGood(bytes) {
    const y = Uint8Array.from(bytes);
    y[31] &= 0x7f;
    const canonical = y[31] !== 0x7f || y[0] < 0xed || y.subarray(1, 31).some((byte) => byte !== 0xff);
    return canonical && !SMALL.some((small) => equal(small, y));
  }

  // Whether 32 bytes, little-endian, are a number below the group's order.
  function isScalar(bytes) {
    for (let i = 0; i < 32; i++) if (bytes[31 - i] !== ORDER[i]) return bytes[31 - i] < ORDER[i];
    return false;
  }

  const keys = new Map();
  function imported(key) {
    const name = latin1(key);
    if (!keys.has(name)) {
      if (keys.size === MOST_KEYS) keys.clear();
      const good = isGood(key);
      keys.set(name, good ? crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]).catch(() => null) : null);
    }
    return keys.get(name);
  }

  async function holds(key, message, signature) {
    const found = await imported(key);
    if (!found || !isScalar(signature.subarray(32)) || !isGood(signature.subarray(0, 32))) return false;
    return crypto.subtle.verify("Ed25519", found, signature, message);
  }

  // Whether this browser has Ed25519: one of 2025 or later, on a page of https, of this machine, or of a file.
  async function isThere() {
    const key = fromHex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"); // RFC 8032, 7.1
    try {
      await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
      return true;
    } catch {
      return false;
    }
  }

  return { holds, isThere };
});
