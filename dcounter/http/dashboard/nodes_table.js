import { age, integer } from "./format.js";
import { diskOf, lagOf, stateOf } from "./picture.js";

/** The rows of the table that says the same as the picture, and more. */
export function nodeRows({ nodes }) {
  return nodes.map((node) => [
    `Node ${node.id}`,
    node.refuses ? `${stateOf(node)[1]}: ${node.refuses}` : stateOf(node)[1],
    node.role,
    integer(node.items),
    node.lag ? `${integer(node.lag)} batches` : lagOf(node)[1],
    diskOf(node)[1].replace("disk ", ""),
    node.address,
    node.pid === null ? "unknown" : String(node.pid),
    node.reported_ms_ago === null ? "never" : age(node.reported_ms_ago / 1000),
  ]);
}
