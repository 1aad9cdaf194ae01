import { age, bytes, duration, integer } from "./format.js";
import { diskOf, lagOf, stateOf } from "./node_state.js";

/** The rows of the table that says the same as the picture, and more. */
export function nodeRows({ nodes }, facts) {
  return nodes.map((node) => [
    `Node ${node.id}`,
    node.refuses ? `${stateOf(node)[1]}: ${node.refuses}` : stateOf(node)[1],
    node.role,
    integer(node.items),
    lagWords(node, facts.get(node.id)),
    diskWords(node, facts.get(node.id)),
    node.address,
    node.pid === null ? "unknown" : String(node.pid),
    node.reported_ms_ago === null ? "never" : age(node.reported_ms_ago / 1000),
  ]);
}

function lagWords(node, facts) {
  if (node.state !== "up") return "unknown";
  if (!node.lag) return lagOf(node)[1];
  const since = facts?.lag_s ? `, ${duration(facts.lag_s)}` : "";
  return `${integer(node.lag)} ${node.lag === 1 ? "batch" : "batches"}${since}`;
}

function diskWords(node, facts) {
  const words = diskOf(node, facts)[1].replace("disk ", "");
  return facts?.free && !words.endsWith(" left") ? `${words}, ${bytes(facts.free)} left` : words;
}
