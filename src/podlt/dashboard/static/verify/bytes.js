// Bytes as texts and numbers, and back.
podltVerify.define("bytes", function () {
  "use strict";
  const HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));
  const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const BASE64_VALUES = new Map([...BASE64].map((letter, value) => [letter, value]));
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const encoder = new TextEncoder();

  function hex(bytes) {
    let text = "";
    for (const byte of bytes) text += HEX[byte];
    return text;
  }

  function fromHex(text) {
    if (text.length % 2 || !/^[0-9a-fA-F]*$/.test(text)) return null;
    return Uint8Array.from({ length: text.length / 2 }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
  }

  // One character a byte: a key for maps whose order is that of the bytes.
  function latin1(bytes) {
    return String.fromCharCode.apply(null, bytes);
  }

  function fromLatin1(text) {
    return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  }

  function equal(a, b) {
    if (a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
    return true;
  }

  function concat(...parts) {
    const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  function toBase64(bytes) {
    let text = "";
    for (let i = 0; i < bytes.length; i += 3) {
      const left = bytes.length - i;
      const word = (bytes[i] << 16) | ((bytes[i + 1] || 0) << 8) | (bytes[i + 2] || 0);
      text += BASE64[word >> 18] + BASE64[(word >> 12) & 63];
      text += (left > 1 ? BASE64[(word >> 6) & 63] : "=") + (left > 2 ? BASE64[word & 63] : "=");
    }
    return text;
  }

  // The bytes of a text in base64; null if it is none. The last letter may have bits that are of no meaning.
  function decodeBase64(text) {
    if (text.length % 4) return null;
    const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
    const bytes = new Uint8Array((text.length / 4) * 3 - padding);
    let at = 0;
    for (let i = 0; i < text.length; i += 4) {
      let word = 0;
      for (let j = i; j < i + 4; j++) {
        const value = j >= text.length - padding ? 0 : BASE64_VALUES.get(text[j]);
        if (value === undefined) return null;
        word = word * 64 + value;
      }
      for (const shift of [16, 8, 0]) if (at < bytes.length) bytes[at++] = (word >> shift) & 255;
    }
    return bytes;
  }

  // As `decodeBase64`; null unless the text is the one encoding of the bytes.
  function fromBase64(text) {
    const bytes = decodeBase64(text);
    return bytes && toBase64(bytes) === text ? bytes : null;
  }

  // The text of bytes; null if they are no UTF-8.
  function text(bytes) {
    try {
      return strict.decode(bytes);
    } catch {
      return null;
    }
  }

  // A number (or BigInt) as 8 bytes, big-endian.
  function u64(number) {
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    if (typeof number === "bigint") {
      view.setBigUint64(0, number);
    } else {
      view.setUint32(0, Math.floor(number / 2 ** 32));
      view.setUint32(4, number % 2 ** 32);
    }
    return bytes;
  }

  return {
    hex, fromHex, latin1, fromLatin1, equal, concat, toBase64, decodeBase64, fromBase64, text, u64,
    utf8: (value) => encoder.encode(value),
    isZero: (bytes) => bytes.every((byte) => byte === 0),
  };
});
