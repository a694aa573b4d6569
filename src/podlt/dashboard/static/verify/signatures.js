// Signatures, checked aside of the pass over the log: they are independent of each other, and most of the work.
podltVerify.define("signatures", function (use) {
  "use strict";
  const { holds } = use("ed25519");
  const BATCH = 512;

  // The number of the first signature of a batch that does not hold, or -1.
  async function firstBad({ count, keys, signatures, messages, ends }) {
    const found = [];
    for (let i = 0; i < count; i++) {
      const message = messages.subarray(i ? ends[i - 1] : 0, ends[i]);
      found.push(holds(keys.subarray(32 * i, 32 * i + 32), message, signatures.subarray(64 * i, 64 * i + 64)));
    }
    return (await Promise.all(found)).indexOf(false);
  }

  // Signatures laid side by side, so that they travel to another worker as four blocks of memory.
  function packed(checks) {
    const count = checks.length;
    const size = checks.reduce((sum, { message }) => sum + message.length, 0);
    const batch = {
      count, keys: new Uint8Array(32 * count), signatures: new Uint8Array(64 * count),
      messages: new Uint8Array(size), ends: new Uint32Array(count),
    };
    let end = 0;
    checks.forEach(({ key, message, signature }, i) => {
      batch.keys.set(key, 32 * i);
      batch.signatures.set(signature, 64 * i);
      batch.messages.set(message, end);
      batch.ends[i] = end += message.length;
    });
    return batch;
  }

  // Takes signatures in the order of the log, and knows the failure of the first that does not hold.
  //
  // checkers: functions that check a batch, as `firstBad`; one a worker. `null` for none: nothing is checked.
  class SignaturePool {
    constructor(checkers) {
      this.checkers = checkers;
      this.waiting = [];
      this.running = [];
      this.next = 0;
      this.failure = null;
    }

    // check: { key, message, signature, failure }, where `failure()` is what is wrong if it does not hold.
    add(check) {
      if (!this.checkers) return;
      this.waiting.push(check);
      if (this.waiting.length === BATCH) this.send();
    }

    send() {
      const checks = this.waiting;
      this.waiting = [];
      const checker = this.checkers[this.next++ % this.checkers.length];
      this.running.push({ checks, bad: checker(packed(checks)) });
    }

    // Waits until few enough batches are under way. Whether all that came back held.
    async room() {
      while (this.checkers && this.running.length > 2 * this.checkers.length) await this.collect();
      return this.failure === null;
    }

    // The failure of the earliest signature that does not hold, or null.
    async firstFailure() {
      if (this.waiting.length) this.send();
      while (this.running.length) await this.collect();
      return this.failure;
    }

    async collect() {
      const { checks, bad } = this.running.shift();
      const place = await bad;
      if (place >= 0 && this.failure === null) this.failure = checks[place].failure();
    }
  }

  return { SignaturePool, firstBad };
});
