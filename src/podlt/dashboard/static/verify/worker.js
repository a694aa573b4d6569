// What runs in the workers of a page: one reads and verifies the bundle, others check signatures for it.
podltVerify.define("worker", function (use) {
  "use strict";
  const { NotChecked, Misuse } = use("claims");
  const { isThere } = use("ed25519");
  const { firstBad } = use("signatures");
  const { Verifier } = use("verifier");
  const { readKey } = use("witnesses");
  const { describe, list } = use("inspect");
  const OFTEN = 100; // milliseconds between two messages of progress

  // A checker of signatures at the other end of a port.
  function remote(port) {
    const waiting = [];
    port.onmessage = ({ data }) => waiting.shift()(data);
    return (batch) => {
      const moved = [batch.keys, batch.signatures, batch.messages, batch.ends].map((part) => part.buffer);
      port.postMessage(batch, moved);
      return new Promise((resolve) => waiting.push(resolve));
    };
  }

  // Checks what comes through a port, one batch after another.
  function serve(port) {
    let last = Promise.resolve();
    port.onmessage = ({ data }) => {
      last = last.then(async () => port.postMessage(await firstBad(data)));
    };
  }

  async function verify(scope, { blob, ports, managerKey, head, witnesses }) {
    let said = 0;
    const progress = (done, total) => {
      const now = performance.now();
      if (now - said < OFTEN) return;
      said = now;
      scope.postMessage({ type: "progress", done, total });
    };
    const checkers = (await isThere()) ? ports.map(remote) : null;
    const verifier = new Verifier({ checkers, managerKey, head, witnesses: witnesses.map(readKey), progress });
    const report = await verifier.verify(blob);
    scope.postMessage({ type: "done", report });
    return verifier;
  }

  // What a page is told where there is no report: not checked (a newer format), asked wrongly, or a defect of ours.
  function told(error) {
    const kind = error instanceof NotChecked ? "not checked" : error instanceof Misuse ? "misuse" : "error";
    return { type: "ended", kind, message: String(error?.message ?? error) };
  }

  function start(scope) {
    let verifier = null;
    const takers = {
      serve: async ({ port }) => serve(port),
      verify: async (message) => {
        verifier = await verify(scope, message);
      },
      list: async ({ first, most }) => scope.postMessage({ type: "list", rows: await list(verifier, first, most) }),
      describe: async ({ index }) => scope.postMessage({ type: "entry", entry: await describe(verifier, index) }),
    };
    scope.onmessage = ({ data }) => takers[data.type](data).catch((error) => scope.postMessage(told(error)));
  }

  return { start };
});
