import { $, element, fill, say } from "./dom.js";
import { clock } from "./format.js";

/** So much time (s) a chart shows, as soon as so much is known; and at least so much. */
export const SPAN_S = 300;
const LEAST_S = 60;
/** At most so many rows a table has. */
const ROWS = 40;
const MINUTES = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

const charts = new Set();

/** Draw all charts anew: the colours are others. */
export function recolour() {
  for (const chart of charts) chart.remake();
}

/** A colour of the style sheet, as the theme has it now. */
function colour(name, share = 100) {
  const probe = element("span");
  probe.style.color = `color-mix(in srgb, var(--${name}) ${share}%, transparent)`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/**
 * Lines over the last minutes, a legend with their values, and a table beside them.
 *
 * @param {string} id of the elements: `id-chart`, perhaps `id-legend`, and the table in the same card
 * @param {object} options
 * @param {{name: string, colour: string}[]} options.series
 * @param {(value: ?number) => string} options.format a value as text
 * @param {boolean} options.counts whether values are counts: steps, and an axis that need not begin at 0
 * @param {boolean} options.filled whether there is colour below the lines
 */
export class Chart {
  #plot = null;
  #data;
  #place;
  #legend;
  #figures;
  #options;

  constructor(id, options) {
    this.#options = options;
    this.#place = $(`${id}-chart`);
    this.#legend = $(`${id}-legend`);
    this.#figures = this.#place.parentElement.querySelector(".figures");
    this.#figures.addEventListener("toggle", () => this.#table());
    if (this.#legend) {
      const items = options.series.map(({ name, colour }) =>
        element("span", { "data-series": colour }, name, " ", element("b")),
      );
      this.#legend.append(...items);
    }
    this.#place.append(element("p", { class: "waits" }, "The line begins with the next figures"));
    new ResizeObserver(() => this.#resize()).observe(this.#place);
    charts.add(this);
  }

  /** @param {number[][]} data times (s since 1970), then the values of each series; `null`: not known */
  show(data) {
    this.#data = data;
    if (this.#plot) this.#plot.setData(data, false);
    else if (data[0].length > 1) this.remake();
    if (this.#plot) this.#range();
    this.#values(data[0].length - 1);
    this.#table();
  }

  /** Show no line, until there are values again. */
  clear() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#place.append(element("p", { class: "waits" }, "The line begins with the next change"));
    this.#data = undefined;
  }

  remake() {
    if (!this.#data || this.#data[0].length < 2) return;
    this.#plot?.destroy();
    this.#place.replaceChildren();
    this.#plot = new uPlot(this.#made(), this.#data, this.#place);
    this.#range();
  }

  #range() {
    const [first, last] = [this.#data[0][0], this.#data[0].at(-1)];
    this.#plot.setScale("x", { min: Math.max(last - SPAN_S, Math.min(first, last - LEAST_S)), max: last });
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.#place;
    if (width && height) this.#plot?.setSize({ width, height });
  }

  #made() {
    const { series, format, counts, filled } = this.#options;
    const axis = {
      stroke: colour("soft"),
      font: `11px ${getComputedStyle(document.body).fontFamily}`,
      ticks: { show: false },
      grid: { stroke: colour("line"), width: 1 },
    };
    const times = (_, splits, axis, space, step) =>
      splits.map((at) => (step % 60 ? clock(at) : MINUTES.format(new Date(at * 1000))));
    return {
      width: this.#place.clientWidth,
      height: this.#place.clientHeight,
      legend: { show: false },
      padding: [10, 26, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { y: { range: (_, least, most) => range(least, most, counts) } },
      axes: [
        { ...axis, grid: { show: false }, values: times, space: 70, size: 26, incrs: TIMES },
        { ...axis, values: (_, splits) => splits.map(format), space: 36, size: 62, incrs: counts ? WHOLE : undefined },
      ],
      series: [
        {},
        ...series.map((each) => ({
          stroke: colour(each.colour),
          width: 2,
          fill: filled ? colour(each.colour, 9) : undefined,
          points: { show: false },
          paths: counts ? uPlot.paths.stepped({ align: 1 }) : undefined,
        })),
      ],
      hooks: { setCursor: [(plot) => this.#values(plot.cursor.idx ?? this.#data[0].length - 1)] },
    };
  }

  /** What the legend says: the values where the pointer is, or else the last ones. */
  #values(index) {
    this.#legend?.querySelectorAll("b").forEach((node, series) => {
      say(node, this.#options.format(this.#data[series + 1][index] ?? null));
    });
  }

  #table() {
    if (!this.#figures.open || !this.#data) return;
    const [times, ...values] = this.#data;
    const rows = times
      .map((at, index) => [clock(at), ...values.map((each) => this.#options.format(each[index]))])
      .filter((row, index) => index === 0 || row[0] !== clock(times[index - 1]))
      .reverse()
      .slice(0, ROWS);
    fill(this.#figures.querySelector("tbody"), rows);
  }
}

/** Steps of an axis of times (s). */
const TIMES = [5, 10, 15, 30, 60, 120, 300];
/** Steps of an axis with whole numbers. */
const WHOLE = [1, 2, 5, 10, 20, 50].flatMap((step) => [...Array(12).keys()].map((power) => step * 10 ** power));
WHOLE.sort((one, other) => one - other);

/** From where to where an axis goes. */
function range(least, most, counts) {
  if (least === null || most === null) return [0, 1];
  if (!counts) return [0, most > 0 ? most * 1.15 : 1];
  const room = Math.max((most - least) * 0.15, 1);
  return [Math.max(0, least - room), most + room];
}
