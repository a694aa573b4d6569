// The rule book: `RunState.apply` says what may happen next in a run. The families are those of docs/SPEC.md, section 3.
podltVerify.define("rules", function (use) {
  "use strict";
  const { Broken, need, CLAIM } = use("claims");
  const { RunFacts } = use("state");
  const { begin, amend, measure, resume, close } = use("rules_terms");
  const { join, shares, withdraw } = use("rules_membership");
  const { open, redeal, commit, reveal } = use("rules_rounds");
  const { verdict, apply, pay, release } = use("rules_judging");

  // Kind of entry -> what it requires of the run before it, and what it changes.
  const RULES = {
    begin, join, withdraw, shares, open, redeal, commit, reveal, verdict, apply, measure, pay, release, amend, resume, close,
  };
  const AFTER = { stopped: "resume", complete: "amend" }; // 3.11, 3.17: the only kind that may follow a close

  class RunState extends RunFacts {
    // Makes the state what it is after an entry. Raises Broken; then the state must not be used any further.
    apply(entry) {
      try {
        need(entry.at >= this.at, CLAIM.PROGRESS, "the clock went back");
        if (!this.begin) need(entry.kind === "begin", CLAIM.PROGRESS, "the first entry must be begin");
        if (this.closed) need(entry.kind === AFTER[this.closed.outcome], CLAIM.OUTCOME, "the run was closed");
        RULES[entry.kind](this, entry);
      } catch (error) {
        if (error instanceof Broken) error.entry = this.index;
        throw error;
      }
      this.at = entry.at;
      this.index += 1;
    }
  }

  return { RunState };
});
