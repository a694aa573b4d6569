// What a run claims, and what checking a claim comes to: docs/SPEC.md, section 6.
podltVerify.define("claims", function () {
  "use strict";
  const TABLE = [
    ["FORM", "every entry is in its one encoding, and none is missing"],
    ["TREE", "the entries are those under the tree heads"],
    ["HEADS", "the tree heads are signed by the run's manager"],
    ["MANAGER", "the manager is the one that you expect"],
    ["CONTINUITY", "the log continues the one that you saw before"],
    ["DOCUMENTS", "recipe and program are those of the first entry"],
    ["TERMS", "the first entry says what the recipe says"],
    ["SIGNATURES", "workers signed the terms they joined on, and every commitment"],
    ["PROGRESS", "rounds follow each other; each example is used once an epoch"],
    ["DRAWS", "every draw follows from the secrets and the workers' salts"],
    ["OPENINGS", "every commitment opens to the result that was used"],
    ["VERDICTS", "every verdict follows from the results"],
    ["PAYMENTS", "every payment is what the rules owe; all accounts sum to zero"],
    ["OUTCOME", "the run ends as its last entry says"],
    ["MODEL", "model.safetensors is the parameters after the last round"],
    ["DATA", "the data are those of the run, and as many"],
    ["START", "the first parameters follow from the recipe's seed"],
    ["SHARDS", "each shard is made of the examples that were due"],
    ["RESULTS", "results are what their tasks give, or their workers were convicted"],
    ["CONVICTIONS", "whoever was convicted had given another result than the task's"],
    ["AVERAGES", "each update that was applied is the average of the accepted results, clipped by the rule"],
    ["LOSSES", "each loss is that of the average"],
    ["PARAMETERS", "each round's parameters follow from its update"],
    ["NO_FAKES", "no fake is in the model"],
    ["FIGURES", "the figures on the test set are those of the parameters"],
    ["PROGRAM", "the program is the recipe's model and loss"],
    ["AGGREGATES", "each average is that of the updates whose fingerprints its workers signed"],
    ["WITNESSES", "the witnesses that you name saw this log grow, to its end"],
  ];
  const CLAIM = Object.fromEntries(TABLE.map(([name], index) => [name, index + 1]));
  const HOLDS = "holds";
  const FAILS = "fails";
  const NOT_CHECKED = "not checked";

  // A claim fails: which, why, and at which entry (null where none is at fault alone).
  class Broken extends Error {
    constructor(claim, reason, entry = null) {
      super(reason);
      this.claim = claim;
      this.reason = reason;
      this.entry = entry;
    }

    get text() {
      return this.entry === null ? this.reason : `entry ${this.entry}: ${this.reason}`;
    }
  }

  // Nothing fails, and nothing can be said: such as a log that a newer podlt wrote.
  class NotChecked extends Error {}

  // What was asked for makes no sense, such as a saved head that is none.
  class Misuse extends Error {}

  function need(holds, claim, reason) {
    if (!holds) throw new Broken(claim, reason);
  }

  // One row of the report. `asked`: whether an unchecked claim is worth saying in the conclusion.
  function finding(claim, outcome, { figure = "", why = "", remedy = "", asked = true } = {}) {
    const [name, title] = TABLE[claim - 1];
    return { claim, name, title, outcome, figure, why, remedy, asked };
  }

  return { TABLE, CLAIM, HOLDS, FAILS, NOT_CHECKED, Broken, NotChecked, Misuse, need, finding };
});
