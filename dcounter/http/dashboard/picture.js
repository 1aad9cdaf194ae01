import { element, say } from "./dom.js";
import { integer, short } from "./format.js";
import { diskOf, lagOf, stateOf } from "./node_state.js";

const COORDINATOR = { width: 236, height: 60 };
const CARD = { least: 140, most: 230, height: 112 };
/** A card of less than this width has less in each line, and more lines. */
const NARROW = 176;
const LINE = 23;
const GAP = 18;
/** Between the coordinator and the nodes, and between rows of nodes. */
const DROP = 56;
const DROP_TO_ONE_ROW = 96;
/** Where the line is that shows how nodes copy to each other, below them. */
const BELOW = 26;

const svg = (name, attributes, ...children) => element(`svg:${name}`, attributes, ...children);

/**
 * The coordinator and its nodes: who is primary, how each is, what flows between them.
 *
 * It is made anew only if there are other nodes, or another width. Otherwise parts of it change, and so what changes
 * can be seen.
 */
export class Picture {
  #place;
  #shown = "";
  #parts = new Map();
  #states = new Map();
  #last = null;

  constructor(place) {
    this.#place = place;
    new ResizeObserver(() => this.#last && this.show(...this.#last)).observe(place);
  }

  /**
   * @param {object[]} nodes as `/cluster` has them
   * @param {?number} primary
   * @param {Map<number, number>} rates items that each takes per second
   * @param {Map<number, Facts>} facts of `nodeFacts`
   */
  show(nodes, primary, rates, facts) {
    this.#last = [nodes, primary, rates, facts];
    const width = Math.floor(this.#place.clientWidth);
    const shown = JSON.stringify([width, nodes.map(({ id }) => id)]);
    if (!width) return;
    if (shown !== this.#shown) this.#draw(nodes, width);
    this.#shown = shown;
    for (const node of nodes) {
      this.#update(node, node.id === primary, rates.get(node.id) ?? 0, facts.get(node.id));
    }
    const words = nodes.map((node) => `node ${node.id} is ${stateOf(node)[1]}${node.id === primary ? ", primary" : ""}`);
    this.#place.firstChild.setAttribute("aria-label", `The coordinator and its nodes: ${words.join("; ")}`);
  }

  #update(node, primary, rate, facts) {
    const part = this.#parts.get(node.id);
    const [level, word] = stateOf(node);
    const [diskLevel, disk] = diskOf(node, facts);
    const [lagLevel, lag] = lagOf(node);
    part.group.dataset.level = level;
    part.group.classList.toggle("primary", primary);
    part.group.classList.toggle("off", node.state !== "up");
    part.link.dataset.level = node.state === "up" ? "good" : "bad";
    part.copies.dataset.level = lagLevel;
    part.flow.classList.toggle("moving", rate > 0);
    part.disk.dataset.level = diskLevel;
    say(part.tag, primary ? "PRIMARY" : "");
    say(part.state, word);
    say(part.rate, rate > 0 ? `${short(rate)}/s` : "");
    say(part.items, `${integer(node.items)} ${node.items === 1 ? "item" : "items"}`);
    say(part.diskWord, disk);
    say(part.lag, lag);
    const state = `${word} ${primary}`;
    if (this.#states.has(node.id) && this.#states.get(node.id) !== state) this.#pulse(part.group);
    this.#states.set(node.id, state);
  }

  #pulse(group) {
    group.classList.remove("changed");
    // Without asking for a size in between, the browser would see no change.
    group.getBBox();
    group.classList.add("changed");
  }

  #draw(nodes, width) {
    const columns = Math.max(1, Math.min(nodes.length, Math.floor((width + GAP) / (CARD.least + GAP))));
    const rows = Math.ceil(nodes.length / columns);
    const inRows = rows > 1;
    // Beside several rows there are lines from row to row.
    const margin = inRows ? 14 : 0;
    const card = Math.min(CARD.most, (width - 2 * margin - GAP * (columns - 1)) / columns);
    const tall = CARD.height + (card < NARROW ? LINE : 0);
    const used = columns * card + (columns - 1) * GAP;
    const left = inRows ? margin : (width - used) / 2;
    const drop = inRows ? DROP : DROP_TO_ONE_ROW;
    const top = (row) => COORDINATOR.height + drop + row * (tall + drop);
    const height = top(rows - 1) + tall + BELOW + 22;
    const center = inRows ? COORDINATOR.width / 2 : width / 2;
    this.#parts = new Map();
    const lines = svg("g");
    const cards = svg("g");
    nodes.forEach((node, index) => {
      const row = Math.floor(index / columns);
      const x = left + (index % columns) * (card + GAP);
      const y = top(row);
      const middle = x + card / 2;
      const path = inRows
        ? `M1.5 ${COORDINATOR.height} V${y - 20} H${middle} V${y}`
        : `M${center} ${COORDINATOR.height + 1} C${center} ${y - 30} ${middle} ${y - 66} ${middle} ${y}`;
      const below = y + tall;
      const part = this.#card(node, x, y, card, tall);
      part.link = svg("path", { class: "link", d: path });
      part.flow = svg("path", { class: "flow", d: path });
      part.copies = svg("path", {
        class: "copies",
        d: inRows
          ? `M${middle} ${below} V${below + 14} H${width - 1.5} V${top(rows - 1) + tall + 14}`
          : `M${middle} ${below} V${below + BELOW} H${width / 2}`,
      });
      lines.append(part.copies, part.link, part.flow);
      cards.append(part.group);
      this.#parts.set(node.id, part);
    });
    const words = svg("text", { class: "dim", x: width / 2, y: height - 4, "text-anchor": "middle" });
    words.append("Nodes copy to each other");
    if (nodes.length < 2) words.replaceChildren();
    const picture = svg(
      "svg",
      { role: "img", width, height, viewBox: `0 0 ${width} ${height}` },
      lines,
      this.#coordinator(center),
      cards,
      words,
    );
    this.#place.replaceChildren(picture);
  }

  #coordinator(center) {
    const { width, height } = COORDINATOR;
    const x = center - width / 2;
    return svg(
      "g",
      {},
      svg("rect", { class: "box", x: x + 0.75, y: 0.75, width: width - 1.5, height: height - 1.5, rx: 10 }),
      svg("text", { class: "title", x: center, y: 26, "text-anchor": "middle" }, "Coordinator"),
      svg("text", { class: "dim", x: center, y: 45, "text-anchor": "middle" }, "takes requests, asks the nodes"),
    );
  }

  #card(node, x, y, width, height) {
    // Where the last line begins, and in which lines of a narrow card things are.
    const last = height - 17;
    const [tag, rate, disk] = width < NARROW ? [48, last, last - LINE] : [24, 48, last];
    const text = (classes, dx, dy, end = false) =>
      svg("text", { class: classes, x: end ? x + width - dx : x + dx, y: y + dy, "text-anchor": end ? "end" : "start" });
    const box = { x: x + 0.75, y: y + 0.75, width: width - 1.5, height: height - 1.5, rx: 10 };
    const part = {
      tag: text("tag", 13, tag, true),
      state: text("state", 14, 48),
      rate: text("dim", 13, rate, true),
      items: text("", 14, 71),
      diskWord: text("dim", 33, disk),
      lag: width < NARROW ? text("dim", 14, last) : text("dim", 13, last, true),
      disk: svg("path", { class: "disk", d: cylinder(x + 15, y + disk - 10) }),
    };
    part.group = svg(
      "g",
      { class: "node", "data-node": node.id },
      svg("rect", { class: "ring", ...box }),
      svg("rect", { class: "box", ...box }),
      svg("circle", { class: "lamp", cx: x + 19, cy: y + 19, r: 5 }),
      svg("text", { class: "title", x: x + 31, y: y + 24 }, `Node ${node.id}`),
      ...Object.values(part),
    );
    return part;
  }
}

function cylinder(x, y) {
  return `M${x} ${y} a5.5 2.2 0 0 1 11 0 v8 a5.5 2.2 0 0 1 -11 0 z m0 0 a5.5 2.2 0 0 0 11 0`;
}
