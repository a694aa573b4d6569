// Tree heads: C2SP checkpoints in signed notes (docs/SPEC.md, 5.2).
podltVerify.define("notes", function (use) {
  "use strict";
  const { Broken, CLAIM } = use("claims");
  const { sha256 } = use("sha256");
  const { concat, equal, fromBase64, hex, utf8 } = use("bytes");
  const MAX_NOTE = 4096;
  const NOTE = new RegExp(
    "^(([^\\n]{1,200})\\n(0|[1-9][0-9]{0,18})\\n([A-Za-z0-9+/]{43}=)\\n)" +
      "\\n\u2014 ([^\\n +]{1,200}) ([A-Za-z0-9+/]{91}=)\\n$",
    "u",
  );
  const ORIGIN = /^podlt\.run\/[0-9a-f]{64}$/;

  const originOf = (run) => `podlt.run/${hex(run)}`;

  function keyId(name, key) {
    return sha256(concat(utf8(name), Uint8Array.from([0x0a, 0x01]), key)).subarray(0, 4);
  }

  // The head in a note of the log `origin`, with the signature that is still to be checked.
  // Raises Broken (HEADS), whose `other` is the origin that a note of another log names.
  function openNote(note, key, origin) {
    const refuse = (reason, other = "") => {
      throw Object.assign(new Broken(CLAIM.HEADS, reason), { other });
    };
    const match = note.length <= 2 * MAX_NOTE && [...note].length <= MAX_NOTE ? NOTE.exec(note) : null;
    if (!match) return refuse("malformed checkpoint");
    const [, text, said, size, encoded, name, signed] = match;
    if (name !== said) refuse("checkpoint of one log, signed for another");
    const root = fromBase64(encoded);
    if (!root) refuse("checkpoint is not in its canonical encoding");
    if (said !== origin) refuse("checkpoint of another log", said);
    const blob = fromBase64(signed);
    if (!blob) refuse("checkpoint is not in its canonical encoding");
    if (!equal(blob.subarray(0, 4), keyId(origin, key))) refuse("checkpoint is not signed by this run's manager");
    return { size: Number(size), root, message: utf8(text), signature: blob.subarray(4) };
  }

  return { openNote, originOf, MAX_NOTE, isOrigin: (name) => ORIGIN.test(name) };
});
