// Runs the scripts of the checker under node: a request a line on standard input, an answer a line on standard output.
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import vm from "node:vm";

const folder = process.argv[2];
const names = fs.readdirSync(folder).filter((name) => name.endsWith(".js")).sort();
for (const name of names) {
  vm.runInThisContext(fs.readFileSync(path.join(folder, name), "utf8"), { filename: name });
}
const { use } = globalThis.podltVerify;
const { Broken, TABLE } = use("claims");
const { decode } = use("entries");
const { holds } = use("ed25519");
const { hex, latin1 } = use("bytes");
const { Verifier } = use("verifier");
const { RunState } = use("rules");

// Spoiled logs differ from each other in a place: a signature is worked out once, as the tests in Python do.
const known = new Map();
async function remembered(key, message, signature) {
  const name = latin1(key) + latin1(signature) + latin1(message);
  if (!known.has(name)) known.set(name, await holds(key, message, signature));
  return known.get(name);
}
async function check({ count, keys, signatures, messages, ends }) {
  const found = [];
  for (let i = 0; i < count; i++) {
    const message = messages.subarray(i ? ends[i - 1] : 0, ends[i]);
    found.push(remembered(keys.subarray(32 * i, 32 * i + 32), message, signatures.subarray(64 * i, 64 * i + 64)));
  }
  return (await Promise.all(found)).indexOf(false);
}

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const maybe = (text) => (text ? bytes(text) : null);
let log = [];

const takers = {
  // A bundle: the whole report.
  async verify({ bundle, manager_key, head, witnesses, signatures = true }) {
    const keys = witnesses.map(use("witnesses").readKey);
    const given = { managerKey: maybe(manager_key), head, witnesses: keys, checkers: signatures ? [check] : null };
    return new Verifier(given).verify(new Blob([bytes(bundle)]));
  },
  // The log that `rules` begins with.
  async log({ entries }) {
    log = entries.map((body) => decode(bytes(body)));
  },
  // So many entries of the log, then others: which of these the rules refuse first, and the claim; or null.
  async rules({ start, entries }) {
    const state = new RunState();
    for (const entry of log.slice(0, start)) state.apply(entry);
    for (const [place, body] of entries.entries()) {
      try {
        state.apply(decode(bytes(body)));
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        return { place, claim: error.claim, reason: error.reason };
      }
    }
    return null;
  },
  // What each record is: "" if it can be read, else why not.
  async decode({ records }) {
    return records.map((record) => {
      try {
        decode(bytes(record));
        return "";
      } catch (error) {
        return `${error.constructor.name}: ${error.message}`;
      }
    });
  },
  async documents({ documents }) {
    return documents.map((raw) => use("documents").parse(bytes(raw)) !== undefined);
  },
  async floats({ values }) {
    return values.map((value) => use("documents").floatText(value));
  },
  async digests({ data }) {
    const { Blake3 } = use("blake3");
    return data.map((raw) => {
      const found = bytes(raw);
      const half = found.length >> 1;
      const inParts = new Blake3().update(found.subarray(0, half)).update(found.subarray(half));
      return [hex(use("sha256").sha256(found)), hex(new Blake3().update(found).digest()), hex(inParts.digest())];
    });
  },
  async signatures({ signed }) {
    return Promise.all(signed.map(([key, message, signature]) => holds(bytes(key), bytes(message), bytes(signature))));
  },
  async draws({ seed, numbers, samples }) {
    const { Dice } = use("dice");
    const dice = new Dice(bytes(seed));
    return [numbers.map((n) => dice.below(n)), samples.map(([n, k]) => dice.sample(n, k))];
  },
  async titles() {
    return TABLE;
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { ask, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { answer: (await takers[ask](given)) ?? null };
  } catch (error) {
    answer = { error: `${error.constructor.name}: ${error.message}`, stack: error.stack };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
