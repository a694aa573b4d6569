// Claim 15: the model's files are the parameters after the last round, byte for byte. docs/SPEC.md, 5.4.
podltVerify.define("model", function (use) {
  "use strict";
  const { CLAIM, HOLDS, FAILS, NOT_CHECKED, finding } = use("claims");
  const { equal, hex, utf8 } = use("bytes");
  const { isBefore, isTable, parse } = use("documents");
  const { Blake3 } = use("blake3");
  const { STEP } = use("blobs");
  const MODEL = "model.safetensors";
  const BUFFERS = "buffers.safetensors";
  const ALIGNMENT = 64;
  // Element types in the order in which a file has them, with their names in safetensors and their bytes.
  const TYPES = new Map([["i64", ["I64", 8]], ["f32", ["F32", 4]], ["i32", ["I32", 4]], ["u8", ["U8", 1]], ["b1", ["BOOL", 1]]]);
  const RANKS = [...TYPES.keys()];
  const PREFIXES = ["param:", "frozen:", "buffer:"];

  class NotTheModel extends Error {}

  function need(holds, why) {
    if (!holds) throw new NotTheModel(why);
  }

  // A dimension for 0 examples: a number, or the constant of {"B": [a, c]}.
  function dimension(item) {
    if (isTable(item) && item.size === 1 && Array.isArray(item.get("B")) && item.get("B").length === 2) return item.get("B")[1];
    return item;
  }

  // The inputs of a program that are its state, in the state's order: name, names in the file, type, shape, bytes.
  function stateOf(raw) {
    const program = parse(raw);
    need(isTable(program), "program.json: not a document in its one encoding");
    const [inputs, types, names] = [program.get("inputs"), program.get("types"), program.get("names") ?? new Map()];
    const listed = Array.isArray(inputs) && Array.isArray(types) && isTable(names) && types.length >= inputs.length;
    need(listed && inputs.every((name) => typeof name === "string"), "program.json: not of the form of a program");
    const tensors = inputs.map((name, i) => {
      const [dtype, shape] = Array.isArray(types[i]) && types[i].length === 2 ? types[i] : [null, null];
      const dims = Array.isArray(shape) ? shape.map(dimension) : [null];
      const known = TYPES.has(dtype) && dims.every((dim) => typeof dim === "bigint" && dim >= 0n);
      const own = name.slice(name.indexOf(":") + 1);
      const saved = names.has(name) ? names.get(name) : [own];
      need(Array.isArray(saved) && saved.every((one) => typeof one === "string"), "program.json: names are lists of texts");
      const size = known ? dims.reduce((all, dim) => all * dim, 1n) * BigInt(TYPES.get(dtype)[1]) : -1n;
      return { name, own, saved, dtype, shape: dims, size: Number(size) };
    });
    const state = PREFIXES.flatMap((prefix) => tensors.filter(({ name }) => name.startsWith(prefix)));
    need(state.every(({ size }) => size >= 0 && Number.isSafeInteger(size)), "program.json: no such type of tensor");
    return state;
  }

  // The tensors of a file, in its order: [name in it, tensor].
  function inOrder(pairs) {
    return pairs.sort(([a, one], [b, two]) => {
      const ranks = RANKS.indexOf(one.dtype) - RANKS.indexOf(two.dtype);
      return ranks || (a === b ? 0 : isBefore(a, b) ? -1 : 1);
    });
  }

  // Opens a file whose header and size must be those that its tensors call for; where each tensor begins in it.
  async function openFile(part, name, pairs) {
    let offset = 0;
    const starts = new Map();
    const rows = pairs.map(([saved, { dtype, shape, size }]) => {
      need(!starts.has(saved), "program: two tensors of the state have one name");
      starts.set(saved, offset);
      const row = `${JSON.stringify(saved)}:{"dtype":"${TYPES.get(dtype)[0]}","shape":[${shape}],"data_offsets":[${offset},${offset + size}]}`;
      offset += size;
      return row;
    });
    const written = utf8(`{${rows.join(",")}}`);
    const expected = new Uint8Array(8 + 8 * Math.ceil(written.length / 8)).fill(32);
    new DataView(expected.buffer).setBigUint64(0, BigInt(expected.length - 8), true);
    expected.set(written, 8);
    const found = await part.read(expected.length);
    need(equal(found, expected), `${name}: its header is not that of the program's tensors`);
    const size = expected.length + offset;
    need(part.size >= size, `${name} is cut off`);
    need(part.size <= size, `${name} has bytes after its last tensor`);
    return { part, name, startOf: (saved) => expected.length + starts.get(saved) };
  }

  // Reads a tensor, and any others that must be the same, piece by piece.
  async function hashTensor(file, names, size, hasher, cancel) {
    for (let at = 0; at < size; at += STEP) {
      cancel();
      const pieces = [];
      for (const saved of names) {
        file.part.seek(file.startOf(saved) + at);
        pieces.push(await file.part.read(Math.min(STEP, size - at)));
      }
      const same = pieces.every((piece) => equal(piece, pieces[0]));
      need(same, `${file.name}: ${names.join(" and ").slice(0, 400)} are tied, and not the same`);
      hasher.update(pieces[0]);
    }
    hasher.update(new Uint8Array((ALIGNMENT - (size % ALIGNMENT)) % ALIGNMENT));
  }

  async function stateDigest(bundle, program, cancel) {
    const state = stateOf(program);
    const saved = inOrder(state.flatMap((tensor) => tensor.saved.map((name) => [name, tensor])));
    const unsaved = inOrder(state.filter((tensor) => !tensor.saved.length).map((tensor) => [tensor.own, tensor]));
    const buffers = bundle.member(BUFFERS);
    const model = await openFile(bundle.member(MODEL), MODEL, saved);
    need(!unsaved.length || buffers, `${BUFFERS} is missing: the program has buffers that are not persistent`);
    need(unsaved.length || !buffers, `${BUFFERS}: the program has no buffers that are not persistent`);
    const others = buffers && (await openFile(buffers, BUFFERS, unsaved));
    const hasher = new Blake3();
    for (const tensor of state) {
      const names = tensor.saved.length ? tensor.saved : [tensor.own];
      await hashTensor(tensor.saved.length ? model : others, names, tensor.size, hasher, cancel);
    }
    return hasher.digest();
  }

  // Claim 15. cancel: called between pieces; raises to end.
  async function checkModel(bundle, documents, state, logHolds, cancel) {
    const open = (why, more = {}) => finding(CLAIM.MODEL, NOT_CHECKED, { why, ...more });
    const finished = state.closed?.outcome === "complete";
    if (documents.isSimulated) return open("the run was simulated: there is no model", { asked: false });
    if (!bundle.member(MODEL)) {
      const why = finished ? `${MODEL}: not here` : "the run is not finished: there is no model yet";
      return open(why, { remedy: "give the run or a bundle of it", asked: finished });
    }
    if (!logHolds) return open("the log was not read to its end");
    if (documents.program === null) {
      return open("program.json, which says how it is laid out: not here", { remedy: "give the run" });
    }
    if (!state.begin || !documents.isRuns("program", state.begin)) {
      return open("program.json is not the run's, so its layout is unknown");
    }
    try {
      const found = await stateDigest(bundle, documents.program, cancel);
      const why = `its digest is ${hex(found)}, the log's last parameters are ${hex(state.parameters)}`;
      if (!equal(found, state.parameters)) return finding(CLAIM.MODEL, FAILS, { why });
      return finding(CLAIM.MODEL, HOLDS, { figure: `parameters ${hex(found).slice(0, 16)}` });
    } catch (error) {
      if (error instanceof NotTheModel) return finding(CLAIM.MODEL, FAILS, { why: error.message });
      throw error;
    }
  }

  return { checkModel };
});
