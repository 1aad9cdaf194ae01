import { $, element } from "./dom.js";
import { clock } from "./format.js";

const MOST = 12;

/** What a change of a node is called, and how bad it is. */
const CHANGES = {
  up: ["good", "is up"],
  down: ["bad", "is down"],
  primary: ["note", "is the primary now"],
  refuses: ["warn", "takes no writes"],
  accepts: ["good", "takes writes again"],
  removed: ["warn", "was removed"],
};

/** Note what happened, above what happened before. */
export function note(level, text) {
  const list = $("log");
  const now = Date.now() / 1000;
  const time = element("time", { datetime: new Date(now * 1000).toISOString() }, clock(now));
  list.prepend(element("li", {}, time, element("span", { "data-level": level }, text)));
  while (list.children.length > MOST) list.lastChild.remove();
}

/** Note an event of a node. */
export function noteChange({ node, change, reason }) {
  const [level, words] = CHANGES[change] ?? ["note", change];
  note(level, `Node ${node} ${words}${reason ? `: ${reason}` : ""}`);
}
