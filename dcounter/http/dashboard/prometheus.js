/** A line of the text format: a name, perhaps labels, a value; a timestamp is ignored. */
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES = { n: "\n", '"': '"', "\\": "\\" };

/**
 * Reads Prometheus' text format.
 *
 * @param {string} text
 * @returns {Map<string, {labels: Object<string, string>, value: number}[]>} samples by their names
 */
export function parseMetrics(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : SAMPLE.exec(line.trim());
    if (match === null) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(LABEL)) {
      labels[name] = value.replace(/\\(.)/g, (whole, char) => ESCAPES[char] ?? whole);
    }
    const samples = found.get(match[1]);
    const sample = { labels, value: number(match[3]) };
    if (samples) samples.push(sample);
    else found.set(match[1], [sample]);
  }
  return found;
}

function number(text) {
  return { "+Inf": Infinity, "-Inf": -Infinity }[text] ?? Number(text);
}

/**
 * The sum of those samples of a name whose labels please.
 *
 * @returns {number | null} `null` if there is none
 */
export function sum(metrics, name, pleases = () => true) {
  const values = (metrics.get(name) ?? []).filter(({ labels }) => pleases(labels)).map(({ value }) => value);
  return values.length ? values.reduce((all, each) => all + each, 0) : null;
}

/**
 * A histogram, summed over all samples whose labels please: upper bound of a bucket -> how many were below it.
 *
 * @returns {Map<number, number>}
 */
export function histogram(metrics, name, pleases = () => true) {
  const found = new Map();
  for (const { labels, value } of metrics.get(`${name}_bucket`) ?? []) {
    if (pleases(labels)) {
      const bound = number(labels.le);
      found.set(bound, (found.get(bound) ?? 0) + value);
    }
  }
  return new Map([...found].sort(([one], [other]) => one - other));
}

/**
 * About below which value a share of all observations is, between two states of a histogram.
 *
 * Within a bucket values are taken to be spread evenly, as Prometheus does.
 *
 * @param {number} share from 0 to 1
 * @param {Map<number, number>} later
 * @param {Map<number, number>} earlier
 * @returns {number | null} `null` if nothing was observed in between
 */
export function quantile(share, later, earlier = new Map()) {
  const counts = [...later].map(([bound, count]) => [bound, count - (earlier.get(bound) ?? 0)]);
  const total = counts.at(-1)?.[1] ?? 0;
  if (!(total > 0)) return null;
  const rank = share * total;
  let [below, before] = [0, 0];
  for (const [bound, count] of counts) {
    if (count >= rank && count > before) {
      // What is beyond the last bound is only known to be that.
      return bound === Infinity ? below : below + ((bound - below) * (rank - before)) / (count - before);
    }
    [below, before] = [bound, count];
  }
  return below;
}
