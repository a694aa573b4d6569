// The checker: takes a bundle, has workers verify it, and shows what they found.
podltVerify.define("page", function (use) {
  "use strict";
  const { element, fill, shown } = use("dom");
  const { fromHex } = use("bytes");
  const { results } = use("page_results");
  const { grouped } = use("report");
  const MOST_WORKERS = 8;
  const NOTE_LINES = 5;

  // The workers of one check; all are made of this page's own scripts.
  class Crew {
    constructor(take, fail) {
      const source = `${podltVerify.source()}\npodltVerify.use("worker").start(self);`;
      this.url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      const workers = Math.max(1, Math.min(MOST_WORKERS, navigator.hardwareConcurrency || 2));
      this.all = Array.from({ length: workers + 1 }, () => new Worker(this.url));
      for (const worker of this.all) worker.onerror = (event) => fail(event.message || "a worker could not start");
      [this.reader, ...this.checkers] = this.all;
      this.reader.onmessage = ({ data }) => take(data);
    }

    verify(blob, given) {
      const ports = this.checkers.map((worker) => {
        const { port1, port2 } = new MessageChannel();
        worker.postMessage({ type: "serve", port: port1 }, [port1]);
        return port2;
      });
      this.reader.postMessage({ type: "verify", blob, ports, ...given }, ports);
    }

    // Whoever only reads entries needs no more than the reader.
    rest() {
      for (const worker of this.checkers) worker.terminate();
    }

    end() {
      for (const worker of this.all) worker.terminate();
      URL.revokeObjectURL(this.url);
    }
  }

  // The manager's note in a saved tree head, without the lines of witnesses that may follow; null if there is none.
  function noteOf(text) {
    const lines = text.trim().split("\n").map((line) => line.trimEnd());
    const more = lines.slice(NOTE_LINES);
    const kept = more.every((line) => line.startsWith("\u2014 ")) ? lines.slice(0, NOTE_LINES) : lines;
    return text.trim() ? `${kept.join("\n")}\n` : null;
  }

  class Page {
    constructor(box) {
      this.crew = null;
      this.file = null;
      const chosen = { change: () => this.take(this.input.files[0]), click: () => (this.input.value = "") };
      this.input = element("input", { type: "file", id: "pv-file", class: "pv-file", ...chosen });
      this.drop = element(
        "label", { class: "pv-drop", for: "pv-file" },
        element("strong", {}, "Drop a bundle here"), " or choose a file", this.input,
        element("span", { class: "pv-soft" }, "a file that podlt bundle RUN wrote; it does not leave this page"),
      );
      const typed = { spellcheck: "false", change: () => this.take(this.file, this.name) };
      this.key = element("input", { id: "pv-key", type: "text", autocomplete: "off", maxlength: "64", ...typed });
      this.head = element("textarea", { id: "pv-head", rows: "5", ...typed });
      this.status = element("p", { class: "pv-status", role: "status" });
      this.bar = element("progress", { max: "1", value: "0", "aria-label": "entries read", hidden: true });
      this.cancel = element("button", { type: "button", hidden: true, click: () => this.stop("cancelled") }, "Cancel");
      this.out = element("div", { class: "pv-out" });
      this.witnesses = element("textarea", { id: "pv-witnesses", rows: "2", ...typed });
      const given = element(
        "details", { class: "pv-given" }, element("summary", {}, "What you know already (optional)"),
        element("label", { for: "pv-key" }, "The manager's key that you expect (64 hexadecimal digits)"), this.key,
        element("label", { for: "pv-head" }, "A signed tree head that you saved before (podlt head RUN)"), this.head,
        element("label", { for: "pv-witnesses" }, "Witnesses that you trust: the key of each, on a line of its own"),
        this.witnesses,
      );
      const doing = element("div", { class: "pv-doing" }, this.status, this.bar, this.cancel);
      fill(box, element("div", { class: "podlt-verify" }, this.drop, given, doing, this.out));
      this.listen();
    }

    listen() {
      const over = (on) => (event) => {
        event.preventDefault();
        this.drop.classList.toggle("pv-over", on);
      };
      this.drop.addEventListener("dragover", over(true));
      this.drop.addEventListener("dragleave", over(false));
      this.drop.addEventListener("drop", (event) => {
        over(false)(event);
        this.take(event.dataTransfer.files[0]);
      });
    }

    // Begins to verify a file, anew if what the reader knows changed. What was shown before goes.
    take(file, name = file?.name) {
      if (!file) return;
      this.stop("");
      fill(this.out);
      [this.file, this.name] = [file, name || "the bundle"];
      const key = this.key.value.trim();
      const managerKey = key ? fromHex(key) : null;
      if (key && managerKey?.length !== 32) return this.say("The manager's key: expected 64 hexadecimal digits.", true);
      const witnesses = this.witnesses.value.split("\n").filter((line) => line.trim());
      this.started = performance.now();
      this.say(`Verifying ${this.name} …`);
      this.bar.hidden = this.cancel.hidden = false;
      this.bar.removeAttribute("value");
      const fail = (message) => this.stop(`This page could not check the bundle: ${message}`, true);
      try {
        this.crew = new Crew((data) => this.hear(data), fail);
        this.crew.verify(file, { managerKey, head: noteOf(this.head.value), witnesses });
      } catch (error) {
        fail(error.message);
      }
    }

    hear(message) {
      const hearers = {
        progress: ({ done, total }) => {
          this.bar.value = total ? done / total : 0;
          this.say(`Verifying ${this.name}: entry ${grouped(done)} of ${grouped(total)}`);
        },
        done: ({ report }) => this.show(report),
        ended: ({ kind, message: why }) => {
          const begins = { "not checked": "Not checked: ", misuse: "", error: "This page could not check the bundle: " };
          this.stop(begins[kind] + why, kind !== "not checked");
        },
        list: ({ rows }) => this.results?.list(rows),
        entry: ({ entry }) => this.results?.entry(entry),
      };
      hearers[message.type](message);
    }

    show(report) {
      this.crew.rest();
      this.bar.hidden = this.cancel.hidden = true;
      const seconds = ((performance.now() - this.started) / 1000).toFixed(1);
      this.say(`${this.name}: ${grouped(report.entries)} ${report.entries === 1 ? "entry" : "entries"} in ${seconds} s, all on this machine.`);
      this.results = results(report, (asked) => this.crew.reader.postMessage(asked));
      fill(this.out, this.results.box);
      this.results.start();
    }

    stop(why, isBad = false) {
      this.crew?.end();
      this.crew = this.results = null;
      this.bar.hidden = this.cancel.hidden = true;
      this.say(why, isBad);
    }

    say(text, isBad = false) {
      this.status.textContent = shown(text);
      this.status.classList.toggle("pv-bad", isBad);
    }
  }

  // Shows the checker in an element; verifies `bundle` (an ArrayBuffer or Blob) at once if it is given.
  function mount(box, { bundle = null } = {}) {
    const page = new Page(box);
    if (bundle) page.take(bundle instanceof Blob ? bundle : new Blob([bundle]), "this run's bundle");
    return { take: (file) => page.take(file), end: () => page.stop("") };
  }

  return { mount };
});
