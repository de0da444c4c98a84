/** The rules: what explains any number of a recorded trace, in the page. */
export { check, explain } from "./explain.ts";
export { LoadedTrace, TraceError, placeOf } from "./trace.ts";
