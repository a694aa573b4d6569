// Scripts without a build step: each file defines a module by name, and a worker is made of the same text.
//
// `podltVerify.define(name, make)` adds a module; `make(use)` is called once, when it is first used, and returns what
// it exports. `podltVerify.source()` is all of it as one script, so that a worker can be started from a Blob: from
// file://, and from a page that is one file, where there is no address to load a script from.
function podltLoader(scope) {
  "use strict";
  if (scope.podltVerify) return;
  const definitions = new Map();
  const made = new Map();

  function define(name, make) {
    definitions.set(name, make);
  }

  function use(name) {
    if (!made.has(name)) {
      const make = definitions.get(name);
      if (!make) throw new Error(`no module ${name}`);
      made.set(name, make(use));
    }
    return made.get(name);
  }

  function source() {
    const parts = [`(${podltLoader})(globalThis);`];
    for (const [name, make] of definitions) parts.push(`podltVerify.define(${JSON.stringify(name)}, ${make});`);
    return parts.join("\n");
  }

  // Shows the checker in an element of a page. Options: bundle (an ArrayBuffer or Blob), which is verified at once.
  function mount(element, options) {
    return use("page").mount(element, options || {});
  }

  scope.podltVerify = { define, use, source, mount };
}
podltLoader(globalThis);
