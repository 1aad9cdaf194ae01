import { age, bytes, integer, nodes } from "./format.js";
import { diskOf } from "./node_state.js";

/**
 * @typedef {object} Advice what is wrong, and what to do about it
 * @property {"bad" | "warn" | "note"} level `bad`: something is lost or refused; `warn`: look at it; `note`: it passes
 * @property {string} what happened, in a sentence
 * @property {string} todo what to do, in a sentence
 */

const of = (level, what, todo) => ({ level, what, todo });

/** What a node says when it refuses writes: a beginning of the text, and what to do. */
const REFUSES = [
  [/^the node is stopping/, "note", "It is being restarted or stopped. Its part of the writes goes to other nodes."],
  [
    /^the disk failed/,
    "bad",
    "Make room on its disk, or replace the disk. It tries again every second; nothing that was acknowledged is lost.",
  ],
  [
    /^the node starts empty/,
    "bad",
    "Start the nodes that it names. Remove only those that will never come back: what only they hold is lost then.",
  ],
  [
    /^more than 64 runs/,
    "bad",
    "Bring the nodes back that are down. Remove one only if it will never come back: what only it holds is lost then.",
  ],
  [/^another process holds the id/, "bad", "Stop the process that runs on a copy of this node's data directory."],
  [/^this node was removed/, "warn", "Stop it for good."],
];

/** What to do about refusals, by code. Those of callers are theirs to correct. */
const REFUSED = {
  unavailable: "No node could take the items: see above for the reason of each. Callers should send them again.",
  overloaded: "There are too many connections or bodies at once: use fewer connections, or more machines.",
  incomplete: "Exact counts lack what a node that is down may hold: bring it back.",
  deadline: "Callers should repeat the request with the stamp that the answer names.",
  ack_not_reached: "The items are stored, but not on as many nodes as asked for. Replication goes on by itself.",
  internal: "That is a bug in dcounter. Its log has a traceback: please report it.",
  too_many_watchers: "Too many programs watch events: close some, or raise the limit.",
  too_many_requests: "A token is used more often than it permits: the caller should wait, or get a higher rate.",
  unauthenticated: "Callers show no token, or one that is not accepted.",
  forbidden: "Callers have tokens without the right for what they ask.",
  invalid_item: "Callers send items that are not valid: the answer tells them which, and why.",
  invalid_line: "A load has a line that is not valid: the answer tells which, and why.",
};

function aboutNode(node, facts) {
  const name = `Node ${node.id}`;
  if (node.state === "new") {
    return [of("bad", `${name} has not been heard of since the daemon started.`, "Start it, if it is not starting.")];
  }
  if (node.state === "down") {
    return [
      of(
        "warn",
        `${name} is down.`,
        "The daemon starts its own nodes again. If it stays down, the log says why; a node of another machine" +
          " has to be started there.",
      ),
    ];
  }
  const found = [];
  if (node.refuses) {
    const [, level, todo] = REFUSES.find(([begins]) => begins.test(node.refuses)) ?? [
      null,
      "warn",
      "Its part of the writes goes to other nodes.",
    ];
    found.push(of(level, `${name} takes no writes: ${node.refuses}.`, todo));
  }
  const [diskLevel] = diskOf(node, facts);
  if (diskLevel === "warn") {
    const part = `${bytes(facts.free)} of ${bytes(facts.size)}`;
    found.push(of("warn", `The disk of node ${node.id} has only ${part} left.`, "Make room before it is full."));
  }
  if (node.in_doubt) {
    const todo = "It answers no counts until its disk works, or other nodes turn out to have all that it has.";
    found.push(of("bad", `${name} has started on a failing disk.`, `Repair the disk. ${todo}`));
  }
  if (node.loading) {
    const todo = "That takes some seconds. It takes writes meanwhile, and answers no counts.";
    found.push(of("note", `${name} loads its ledger.`, todo));
  }
  return found;
}

function aboutLosses(lost) {
  const all = [...new Set(lost.map(({ node }) => node))].sort((one, other) => one - other);
  if (!all.length) return [];
  return [
    of(
      "bad",
      `Items are lost that only ${nodes(all)} had: no node has them any more, and counts go on without them.`,
      "Store them again from where they came; with their own lastUpdateDt, that does no harm to others.",
    ),
  ];
}

function aboutAudit(audit) {
  const found = [];
  const { differences, nodes: audited } = audit?.last ?? {};
  if (differences) {
    const wrong = differences.wrong_nodes.length ? ` ${capital(nodes(differences.wrong_nodes))}: wrong.` : "";
    const many = `${integer(differences.all_items)} items and ${integer(differences.all_counts)} counts`;
    found.push(
      of(
        "bad",
        `The last audit of ${nodes(audited)} found differences in ${many}.${wrong}`,
        differences.undecided
          ? "It is not decided which nodes are right: GET /audit names the items. Look before you repair."
          : 'Have the wrong node made anew from the others: POST /audit with {"repair":true}.',
      ),
    );
  }
  if (audit?.failure && !audit.running) {
    found.push(of("warn", `The last audit was not finished: ${audit.failure}.`, "Audit again."));
  }
  return found;
}

/** @param {Map<string, number>} refused code -> how many requests, since `since` (s ago) */
function aboutRefusals(refused, since) {
  // That the daemon was not ready is said above, as long as it is so.
  const all = [...refused].filter(([code]) => code !== "not_ready").sort(([, one], [, other]) => other - one);
  return all.slice(0, 5).map(([code, count]) => {
    const times = count === 1 ? "1 request was" : `${integer(count)} requests were`;
    const ours = ["unavailable", "overloaded", "incomplete", "deadline", "ack_not_reached", "internal"];
    return of(
      ours.includes(code) ? "warn" : "note",
      `${times} refused as ${code}; the last one ${age(since.get(code) ?? 0)}.`,
      REFUSED[code] ?? "The answer tells callers what was wrong, and whether anything was stored.",
    );
  });
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

/**
 * What an operator should look at, the worst first.
 *
 * @param {object} known
 * @param {?object} known.cluster what `/cluster` answers
 * @param {?object} known.ready what `/readyz` answers, also if it refuses
 * @param {?object} known.audit what `/audit` answers
 * @param {Map<number, Facts>} known.facts of `nodeFacts`
 * @param {Map<string, number>} known.refused how many requests were refused, by code
 * @param {Map<string, number>} known.since how long ago (s) the last of them was
 * @returns {Advice[]}
 */
export function advice({ cluster, ready, audit, facts = new Map(), refused = new Map(), since = new Map() }) {
  const found = [...aboutLosses(cluster?.lost ?? [])];
  const members = cluster?.nodes ?? [];
  if (members.length && members.every((node) => node.state !== "up" || node.refuses)) {
    found.push(of("bad", "No node takes writes: they are refused.", "See below for the reason of each node."));
  }
  if (cluster && cluster.primary === null) {
    found.push(of("bad", "No node is up: nothing can be counted.", "Start the nodes; the log says why they do not run."));
  }
  if (ready && !ready.exact) {
    const missing = ready.missing.length ? ` of ${nodes(ready.missing)}` : "";
    found.push(
      of(
        "bad",
        `Exact counts are refused: items${missing} may be missing from them.`,
        "Bring the node back. Until then, callers can ask with consistency=available, and are told what is missing.",
      ),
    );
  }
  found.push(...members.flatMap((node) => aboutNode(node, facts.get(node.id))), ...aboutAudit(audit));
  for (const warning of cluster?.warnings ?? ready?.warnings ?? []) {
    found.push(of("warn", `${capital(warning)}${/[.!]$/.test(warning) ? "" : "."}`, ""));
  }
  found.push(...aboutRefusals(refused, since));
  const order = ["bad", "warn", "note"];
  return found.sort((one, other) => order.indexOf(one.level) - order.indexOf(other.level));
}

/**
 * How things are, in a sentence.
 *
 * @returns {{level: "good" | "bad" | "warn", text: string}}
 */
export function verdict({ cluster, ready, stats }) {
  const members = cluster?.nodes ?? [];
  const writing = members.filter((node) => node.state === "up" && !node.refuses).map(({ id }) => id);
  if (ready && !ready.exact) return { level: "bad", text: "Counts are not exact" };
  if (members.length && !writing.length) return { level: "bad", text: "Writes are refused" };
  if (stats?.missing) return { level: "warn", text: `Some of what ${nodes(stats.missing)} took may be missing here` };
  const exact = ready ? "Counts are exact" : "";
  if (!members.length) return { level: "good", text: exact };
  if (writing.length < members.length) {
    return { level: "warn", text: `${exact}; ${writing.length} of ${members.length} nodes take writes` };
  }
  const all = { 1: "the node takes", 2: "both nodes take" }[members.length] ?? `all ${members.length} nodes take`;
  return { level: "good", text: `${exact}; ${all} writes` };
}
