// Claims 6 and 7: recipe and program are those of the first entry, and it says what the recipe says. docs/SPEC.md, 3.1.
podltVerify.define("terms", function (use) {
  "use strict";
  const { CLAIM, HOLDS, FAILS, NOT_CHECKED, finding } = use("claims");
  const { digest } = use("sha256");
  const { equal, hex, u64 } = use("bytes");
  const { floatText, isTable, parse } = use("documents");
  const { MILLION, mostRounds } = use("draws");
  const MOST = 2n ** 40n;
  const NAMES = ["recipe", "program"];

  // What a field may be; where the recipe leaves it out it is the default.
  const whole = (least, most) => (value) => typeof value === "bigint" && value >= least && value <= most;
  const positive = whole(1n, MOST);
  const count = whole(0n, MOST);
  const small = whole(0n, 2n ** 20n);
  const orNull = (type) => (value) => value === null || type(value);
  const real = (value) => typeof value === "number" || typeof value === "bigint";
  const share = (value) => real(value) && value >= 0 && value <= 1;
  const oneOf = (...words) => (value) => words.includes(value);
  const word = (pattern) => (value) => typeof value === "string" && pattern.test(value);

  const FIELDS = {
    training: {
      epochs: [positive, 1n], workers: [whole(1n, 2n ** 20n - 1n), 50n], batch_size: [positive, 1000n],
      shard_size: [count, 0n], seed: [count, 0n], local_steps: [positive, 1n],
      local_lr: [orNull((value) => real(value) && value > 0), null],
    },
    protocol: {
      preset: [oneOf("classic", "guarded"), "guarded"], checked: [orNull(share), null], own: [orNull(share), null],
      own_most: [orNull(count), null], clip: [orNull(small), null],
      first_fault: [orNull(oneOf("evict", "suspend")), null], escrow: [small, 50n], reward: [count, 1n],
      shares: [oneOf("measured", "equal"), "measured"],
    },
    model: { name: [word(/:/)], parameters: [word(/^([0-9a-f]{64})?$/), ""] },
    data: { source: [word(/./s)] },
  };
  const TOP = { arithmetic: [oneOf("stock", "exact"), "exact"], digits: [oneOf("auto", 1n, 2n, 3n), "auto"] };

  const DEFAULTS = { checked: 0.03, own: 0.02, own_most: 1n, clip: 8n, first_fault: "suspend" };
  const CLASSIC = { checked: 0n, own: 0n, own_most: 0n, clip: 0n, first_fault: "evict" };

  function fieldsOf(document, where, fields) {
    if (!isTable(document)) throw new TypeError(`${where}: expected a table`);
    const found = {};
    for (const [name, [type, byDefault]] of Object.entries(fields)) {
      const value = document.has(name) ? document.get(name) : byDefault;
      if (value === undefined || !type(value)) throw new TypeError(`${where}${name}: missing or out of its range`);
      found[name] = value;
    }
    return found;
  }

  // The fields of a recipe that bind the log. Raises TypeError where it is none.
  function readRecipe(raw) {
    const document = parse(raw);
    if (!isTable(document)) throw new TypeError("not a document in its one encoding");
    const found = fieldsOf(document, "", TOP);
    for (const [name, fields] of Object.entries(FIELDS)) {
      found[name] = fieldsOf(document.get(name) ?? new Map(), `${name}.`, fields);
    }
    checkRecipe(found);
    return found;
  }

  function checkRecipe({ training, protocol }) {
    const least = protocol.preset === "classic" ? 3n : 1n;
    const options = Object.keys(DEFAULTS).filter((name) => protocol[name] !== null);
    const plain = options.every((name) => protocol.preset !== "classic" || same(termOf(name, protocol[name]), CLASSIC[name]));
    if (!plain) throw new TypeError(`protocol: classic leaves out ${options.join(", ")}`);
    if (training.workers < least) throw new TypeError(`training.workers: expected at least ${least}`);
    if (training.shard_size > training.batch_size) throw new TypeError("training.shard_size: above batch_size");
    if (training.local_steps > 1n && training.local_lr === null) throw new TypeError("training.local_lr: missing");
  }

  // Millionths: times 1,000,000 in binary64, then to the nearest whole number, ties to even.
  function millionths(value) {
    const product = Number(value) * MILLION;
    const low = Math.floor(product);
    const rest = product - low;
    return BigInt(rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low);
  }

  const termOf = (name, value) => (name === "checked" || name === "own" ? millionths(value) : value);

  // 3.1: the terms that a recipe gives, by the names of the first entry.
  function termsOf({ training, protocol }, begin) {
    const given = protocol.preset === "classic" ? CLASSIC : DEFAULTS;
    const option = (name) => termOf(name, protocol[name] ?? given[name]);
    return {
      preset: protocol.preset, seed: digest("seed/1", u64(training.seed)), epochs: training.epochs,
      batch_size: training.batch_size, shard_size: training.shard_size, local_steps: training.local_steps,
      local_lr: training.local_steps > 1n ? Number(training.local_lr) : null,
      spares: protocol.preset === "classic" ? 2n : 1n, checked: option("checked"), own: option("own"),
      own_most: option("own_most"), clip: option("clip"), escrow: protocol.escrow, first_fault: option("first_fault"),
      reward: protocol.reward, chain_length: mostRounds({ ...training, examples: begin.examples }, training.epochs),
    };
  }

  const same = (a, b) => (a instanceof Uint8Array ? equal(a, b) : a === b);

  function shown(value) {
    if (value instanceof Uint8Array) return hex(value);
    if (value === null) return "None";
    if (typeof value === "number") return floatText(value);
    return typeof value === "string" ? `'${value}'` : String(value);
  }

  // Recipe and program as far as they are there: each bytes, or null.
  class Documents {
    constructor(recipe, program) {
      this.recipe = recipe;
      this.program = program;
    }

    isRuns(name, begin) {
      return equal(digest(`${name}/1`, this[name]), begin[name]);
    }

    get isSimulated() {
      try {
        return this.recipe !== null && readRecipe(this.recipe).data.source === "simulated";
      } catch {
        return false;
      }
    }

    // 3.19: whether the recipe says that all workers have equal shares.
    get givesEqualShares() {
      try {
        return this.recipe !== null && readRecipe(this.recipe).protocol.shares === "equal";
      } catch {
        return false;
      }
    }

    // The keys of the witnesses that the recipe names, as far as it can be read.
    get witnesses() {
      try {
        readRecipe(this.recipe);
        return (parse(this.recipe).get("witnesses") ?? []).map((one) => one.get("key"));
      } catch {
        return [];
      }
    }

    // Claim 6
    check(begin) {
      for (const name of NAMES.filter((each) => this[each] !== null && !this.isRuns(each, begin))) {
        const why = `${name}.json is not the run's (expected digest ${hex(begin[name])}, got ${hex(digest(`${name}/1`, this[name]))})`;
        return finding(CLAIM.DOCUMENTS, FAILS, { why });
      }
      const missing = NAMES.filter((name) => this[name] === null).map((name) => `${name}.json`);
      const remedy = "give the run or a bundle of it";
      if (!missing.length) return finding(CLAIM.DOCUMENTS, HOLDS, { figure: "2 documents" });
      return finding(CLAIM.DOCUMENTS, NOT_CHECKED, { why: `${missing.join(" and ")}: not here`, remedy });
    }

    // Claim 7
    checkTerms(begin) {
      for (const name of NAMES) {
        const open = (why, remedy) => finding(CLAIM.TERMS, NOT_CHECKED, { why, remedy });
        if (this[name] === null) return open(`${name}.json: not here`, "give the run or a bundle of it");
        if (!this.isRuns(name, begin)) return open(`${name}.json is not the run's`, "give the run's own");
      }
      const fails = (why) => finding(CLAIM.TERMS, FAILS, { why });
      let recipe;
      try {
        recipe = readRecipe(this.recipe);
      } catch (error) {
        return fails(`recipe.json is no recipe: ${error.message}`);
      }
      const terms = termsOf(recipe, begin);
      const wrong = Object.keys(terms).filter((name) => !same(terms[name], begin[name]));
      if (wrong.length) {
        const [name] = wrong;
        return fails(`${wrong.join(", ")}: the recipe gives ${name} ${shown(terms[name])}, begin says ${shown(begin[name])}`);
      }
      const given = recipe.model.parameters;
      if (given && given !== hex(begin.parameters)) return fails("parameters: the recipe names other first parameters");
      const expected = recipe.arithmetic === "stock" ? "stock" : `exact/${recipe.digits}`;
      const program = parse(this.program);
      const found = isTable(program) ? program.get("arithmetic") : null;
      if (found !== expected) return fails(`arithmetic: the recipe says '${expected}', the program ${shown(found ?? null)}`);
      const figure = `${Object.keys(terms).length} terms; reward ${begin.reward} an example`;
      return finding(CLAIM.TERMS, HOLDS, { figure });
    }
  }

  return { Documents };
});
