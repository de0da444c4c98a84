// What the tests of the rules do in a page: load a trace, explain cells of it, recompute them all, and spoil some.
({ LoadedTrace, explain, check }) => {
  let bytes = new Map();
  window.load = ({ records, blobs }) => {
    const decoded = ([name, text]) => [name, Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))];
    bytes = new Map(Object.entries(blobs).map(decoded));
    window.trace = new LoadedTrace(records, (name) => bytes.get(name));
  };

  const answer = ([tensor, index], steps) => {
    try {
      return explain(window.trace, tensor, index, steps);
    } catch (error) {
      return { error: error.message };
    }
  };
  window.answers = (cells, steps = []) => cells.map((cell) => answer(cell, new Set(steps)));

  // The same cell after some bits of a byte of its storage have changed.
  window.flipped = (tensor, index, byte, bits) => {
    const { records } = window.trace;
    const { storage } = records.tensors[tensor];
    const spoilt = bytes.get(records.storages[storage].blob).slice();
    spoilt[byte] ^= bits;
    const storages = records.storages.with(storage, { ...records.storages[storage], blob: "spoilt" });
    const read = (name) => (name === "spoilt" ? spoilt : bytes.get(name));
    return explain(new LoadedTrace({ ...records, storages }, read), tensor, index);
  };

  const passes = (tensor, index) => {
    try {
      return check(window.trace, tensor, index).passed;
    } catch {
      return false;
    }
  };

  window.checkAll = () => {
    const { operations, tensors } = window.trace.records;
    const written = operations.filter((operation) => operation.writes).flatMap((operation) => operation.outputs);
    const failed = [];
    let n = 0;
    for (const tensor of written.filter((output) => tensors[output].kind === "computed")) {
      const { shape } = tensors[tensor];
      const size = shape.reduce((a, b) => a * b, 1);
      for (let i = 0; i < size; i++, n++) {
        let rest = i;
        const index = shape.toReversed().map((length) => {
          const at = rest % length;
          rest = Math.floor(rest / length);
          return at;
        });
        if (!passes(tensor, index.reverse())) failed.push([tensor, index]);
      }
    }
    return { n, failed };
  };
};
