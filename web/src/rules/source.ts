/** Numbers out of nothing but an operation's own settings: constants and ranges. The twin of rules/source.py. */
import { Constant, add, call, times } from "./formula.ts";
import { rule } from "./table.ts";

/** 0. */
rule(["zeros", "zeros_like", "new_zeros", "zero"], () => new Constant(0));

/** 1. */
rule(["ones", "ones_like", "new_ones"], () => new Constant(1));

/** The value to fill with. */
rule(["full", "full_like", "new_full", "fill", "scalar_tensor"], (step, index) => {
  if (step.has("value")) return step.broadcast("value", index);
  return step.at(step.has("s") ? "s" : "fill_value", []);
});

/** start + i · step. */
rule(["arange"], (step, index) => {
  const [start, by] = ["start", "step"].map((name) => (step.has(name) ? step.at(name, []) : null));
  return add(start ?? 0, times(by ?? 1, index[0]!));
});

/** 1 on the diagonal. */
rule(["eye"], (_, index) => new Constant(Number(index[0] === index[1])));

/** start + i · (end − start) / (steps − 1). */
rule(["linspace"], (step, index) => {
  const by = (step.number("end") - step.number("start")) / Math.max(step.number("steps") - 1, 1);
  return add(step.at("start", []), times(by, index[0]!));
});

/** ½ − ½ cos(2π n / N). */
rule(["hann_window"], (step, index) => {
  const length = step.number("window_length") - (step.flag("periodic", true) ? 0 : 1);
  return call("−", 0.5, times(0.5, call("cos", times((2 * Math.PI) / Math.max(length, 1), index[0]!))));
});
