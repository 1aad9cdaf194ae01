import { bytes, short } from "./format.js";

/**
 * How a node is, in a word.
 *
 * @returns {[string, string]} a level, and the word
 */
export function stateOf(node) {
  if (node.state === "new") return ["bad", "not heard of yet"];
  if (node.state !== "up") return ["bad", node.state];
  if (node.in_doubt) return ["bad", "in doubt"];
  if (node.loading) return ["note", "loading"];
  if (node.refuses) return ["warn", "takes no writes"];
  return ["good", "up"];
}

/** Less than this part of a disk is little. */
const LITTLE = 0.1;

/**
 * How a node's disk is.
 *
 * @param {Facts} [facts] of `nodeFacts`
 */
export function diskOf(node, facts) {
  if (node.state !== "up") return ["", "disk unknown"];
  if (node.in_doubt || /^the disk failed/.test(node.refuses ?? "")) return ["bad", "disk fails"];
  if (facts?.free !== null && facts?.free < LITTLE * facts?.size) return ["warn", `${bytes(facts.free)} left`];
  return ["", facts?.journal ? bytes(facts.journal) : "disk works"];
}

/** While items are stored, nodes are some batches behind each other: so many are no reason to look. */
const USUAL_LAG = 200;

/** How far a node is behind the others. */
export function lagOf(node) {
  if (node.state !== "up") return ["bad", ""];
  return [node.lag > USUAL_LAG ? "warn" : "good", node.lag ? `${short(node.lag)} behind` : "in step"];
}
