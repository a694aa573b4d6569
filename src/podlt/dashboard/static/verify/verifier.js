// The pass over a log (docs/SPEC.md, section 6): entries are taken in batches, each up to the next tree head. They must be
// in their form and in the tree, the head must be the manager's, and then the rules must allow each of them.
podltVerify.define("verifier", function (use) {
  "use strict";
  const { Broken, CLAIM, FAILS, HOLDS, Misuse, TABLE, need } = use("claims");
  const { equal, hex, u64, utf8, concat } = use("bytes");
  const { Bundle } = use("bundle");
  const { decode } = use("entries");
  const { digest } = use("sha256");
  const { EMPTY_ROOT, Leaves, Tree, leafHash } = use("merkle");
  const { holds } = use("ed25519");
  const { isOrigin, openNote, originOf } = use("notes");
  const { RunState } = use("rules");
  const { SignaturePool } = use("signatures");
  const { Documents } = use("terms");
  const { checkModel } = use("model");
  const { count, counter, exitCode, facts, findingOf, unknown } = use("report");

  const { SeenHeads } = use("witnesses");
  const MAX_COSIGNATURES = 64 * 2 ** 20;

  const inForm = (failure) => Object.assign(failure, { claim: CLAIM.FORM });

  // What is checked, besides the file:
  //   checkers: functions that check a batch of signatures (`signatures.firstBad`), one a worker; null for none.
  //   managerKey: the key that is expected (32 bytes), or null.
  //   witnesses: who must have cosigned the last head (`witnesses.readKey`).
  //   head: a signed tree head that somebody kept, or null.
  //   progress: called with the number of entries that were read, and of those that there are.
  //   cancel: called often; raises to end the check.
  class Verifier {
    constructor({ checkers = null, managerKey = null, head = null, witnesses = [], progress = () => {}, cancel = () => {} }) {
      Object.assign(this, { managerKey, head, witnesses, progress, cancel, signatures: checkers !== null });
      this.pool = new SignaturePool(checkers);
      this.documents = new Documents(null, null);
      this.state = new RunState();
      this.tree = new Tree();
      this.leaves = new Leaves();
      this.places = []; // where each entry begins in the file
      this.roots = new Map([[0, EMPTY_ROOT]]);
      this.found = new Map();
      this.counts = counter();
      this.kept = null; // the head that somebody kept, opened
      this.lastHead = "";
      this.seen = new SeenHeads();
    }

    // The report: a plain object that can be sent to a page.
    async verify(blob) {
      let failure = null;
      let bundle = null;
      try {
        bundle = this.bundle = await Bundle.open(blob);
        this.documents = new Documents(await bundle.document("recipe.json"), await bundle.document("program.json"));
        failure = await this.log(bundle);
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        failure = inForm(error); // not even its container can be read
      }
      const findings = TABLE.map((row, i) => findingOf(i + 1, { ...this, failure }));
      if (bundle) findings[CLAIM.MODEL - 1] = await checkModel(bundle, this.documents, this.state, !failure, this.cancel);
      return this.report(findings, failure);
    }

    // Reads the log; the first failure, or null.
    async log(bundle) {
      let failure = null;
      try {
        await this.read(bundle);
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        failure = error;
      }
      // A signature that fails belongs to an entry that was read before: the earliest is the one to name.
      return (await this.pool.firstFailure()) ?? failure;
    }

    async read(bundle) {
      const ahead = bundle.heads();
      let total = 0;
      let heads = 0;
      for (let head = await ahead.next(); head; head = await ahead.next()) [total, heads] = [head.size, heads + 1];
      need(heads, CLAIM.HEADS, "the log has no tree head");
      const reader = bundle.heads();
      const entries = bundle.entries();
      for (let head = await reader.next(); head; head = await reader.next()) {
        this.cancel();
        await this.batch(entries, head);
        if (!(await this.pool.room())) return;
        this.progress(this.tree.size, total);
      }
      if (await entries.next()) throw new Broken(CLAIM.HEADS, "covered by no tree head", this.tree.size);
      this.end();
    }

    async batch(reader, { size, note }) {
      const first = this.tree.size;
      const entries = [];
      for (let number = first; number < size; number++) {
        const start = reader.part.position;
        const body = await reader.next();
        if (!body) throw new Broken(CLAIM.FORM, "the entry is missing", number);
        const leaf = leafHash(body);
        this.tree.append(leaf);
        this.leaves.push(leaf);
        this.places.push(start);
        entries.push(decodeAt(body, number));
        if (number === 0) await this.begin(entries[0]);
        this.checkKept();
        this.seen.reach(this.tree);
      }
      this.checkHead(first, size, note);
      for (const entry of entries) {
        this.addSignatures(entry);
        count(this.counts, entry, this.state);
        if (entry.kind === "shares") this.checkShares();
        this.state.apply(entry);
      }
    }

    // What must hold before the first head can be checked: who the manager is, and what it promised.
    async begin(entry) {
      if (entry.kind !== "begin") throw new Broken(CLAIM.PROGRESS, "the first entry must be begin", 0);
      const expected = !this.managerKey || equal(this.managerKey, entry.manager);
      if (!expected) {
        const why = `the run is another manager's (expected ${hex(this.managerKey)}, got ${hex(entry.manager)})`;
        throw new Broken(CLAIM.MANAGER, why, 0);
      }
      this.manager = entry.manager.slice();
      this.origin = originOf(entry.identity);
      if (this.head) this.kept = await this.openKept();
      if (this.witnesses.length && this.signatures) {
        const raw = (await this.bundle.document("log/cosignatures", MAX_COSIGNATURES)) ?? new Uint8Array(0);
        this.seen = await SeenHeads.of(this.witnesses, raw, this.origin);
      }
      this.found.set(CLAIM.DOCUMENTS, this.documents.check(entry));
      this.found.set(CLAIM.TERMS, this.documents.checkTerms(entry));
    }

    async openKept() {
      try {
        const found = openNote(this.head, this.manager, this.origin);
        const good = !this.signatures || (await holds(this.manager, found.message, found.signature));
        need(good, CLAIM.HEADS, "signature of the checkpoint does not hold");
        return found;
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        if (isOrigin(error.other)) throw new Broken(CLAIM.CONTINUITY, "the head that you kept is another run's");
        throw new Misuse(`the saved tree head is not a signed head of this run: ${error.reason}`);
      }
    }

    checkKept() {
      const { kept, tree } = this;
      if (!kept || kept.size !== tree.size || equal(kept.root, tree.root())) return;
      throw new Broken(CLAIM.CONTINUITY, `the log is not the one of the head that you kept, over ${kept.size} entries`);
    }

    checkHead(first, size, note) {
      let head;
      try {
        head = openNote(note, this.manager, this.origin);
      } catch (error) {
        if (error instanceof Broken) error.reason = `the tree head over ${size} entries: ${error.reason}`;
        throw error;
      }
      const why = `the tree head over ${size} entries: signature of the checkpoint does not hold`;
      const failure = () => new Broken(CLAIM.HEADS, why);
      this.pool.add({ key: this.manager, message: head.message, signature: head.signature, failure });
      need(head.size === size, CLAIM.HEADS, "tree head of another size");
      const covered = equal(head.root, this.tree.root());
      need(covered, CLAIM.TREE, `entries ${first} to ${size - 1} are not those of the tree head over ${size}`);
      this.lastHead = note;
      this.roots.set(size, head.root);
      this.counts.heads += 1;
    }

    // 2.2, 2.3: the signatures of an entry, given the run before it.
    addSignatures(entry) {
      const { state } = this;
      const { index } = state;
      const add = (worker, key, signature, domain, message) => {
        const why = `the signature of worker ${worker} does not hold`;
        const failure = () => new Broken(CLAIM.SIGNATURES, why, index);
        this.counts.signatures += 1;
        this.pool.add({ key, message: digest(domain, message), signature, failure });
      };
      if (entry.kind === "join") {
        const root = this.roots.get(Number(entry.seen));
        const seen = root !== undefined && equal(root, entry.root);
        const why = `worker ${entry.worker} signed a tree head that this log does not have`;
        if (!seen) throw new Broken(CLAIM.SIGNATURES, why, index);
        const numbers = [u64(entry.worker), u64(entry.deposit), u64(entry.seen)];
        const terms = concat(state.run, ...numbers, entry.root, utf8(entry.operator));
        add(entry.worker, entry.key, entry.signature, "join/4", terms);
        add(entry.worker, entry.key, entry.share, "share/4", state.run);
      } else if (entry.kind === "commit") {
        for (const { holder, commitment, signature } of entry.commitments) {
          const known = state.workers.get(holder);
          const why = `commitment of worker ${holder}, who never joined`;
          if (!known) throw new Broken(CLAIM.OPENINGS, why, index);
          add(holder, known.key, signature, "signed-commitment/1", commitment);
        }
      }
    }

    // 3.19
    checkShares() {
      const equal = this.found.get(CLAIM.TERMS).outcome === HOLDS && this.documents.givesEqualShares;
      const why = "workers get other levels, and the recipe gives them equal shares";
      if (equal) throw new Broken(CLAIM.TERMS, why, this.state.index);
    }

    end() {
      const { kept, state, tree } = this;
      if (kept && kept.size > tree.size) {
        throw new Broken(CLAIM.CONTINUITY, "the log was cut: the head that you kept is over more entries");
      }
      need(state.ledger.total() === 0n, CLAIM.PAYMENTS, "the accounts do not sum to zero");
    }

    report(findings, failure) {
      const failing = findings.find(({ outcome }) => outcome === FAILS);
      const atBegin = failing && (failing.claim === CLAIM.DOCUMENTS || failing.claim === CLAIM.TERMS);
      const first = failure ?? (failing && new Broken(failing.claim, failing.why, atBegin ? 0 : null));
      const { state, counts, documents } = this;
      return {
        findings, exitCode: exitCode(findings), facts: facts(state), rounds: state.round,
        failure: first ? { claim: first.claim, entry: first.entry, reason: first.reason, text: first.text } : null,
        unknown: unknown(state, counts, documents.isSimulated), entries: this.tree.size, head: this.lastHead,
        isRecord: state.workers.size === 1,
      };
    }
  }

  function decodeAt(body, number) {
    try {
      return decode(body);
    } catch (error) {
      if (error instanceof Broken) error.entry = number;
      else if (number) throw new Broken(CLAIM.FORM, `an entry of another format: ${error.message}`, number);
      throw error;
    }
  }

  return { Verifier };
});
