/**
 * The counts of tenants over the last minutes, as far as events have told them.
 *
 * Bounded: of the tenants, those that changed last; of each, one point per second.
 */
export class History {
  #points = new Map();
  #tenants;
  #seconds;

  constructor({ tenants = 2_000, seconds = 600 } = {}) {
    this.#tenants = tenants;
    this.#seconds = seconds;
  }

  /** @param {number} at s since 1970 */
  add(tenant, at, counter) {
    const points = this.#points.get(tenant) ?? [];
    // What changed last is kept longest.
    this.#points.delete(tenant);
    this.#points.set(tenant, points);
    const last = points.at(-1);
    if (last && Math.floor(last[0]) === Math.floor(at)) last[1] = counter;
    else if (last?.[1] !== counter) points.push([at, counter]);
    // One from before the time that is shown tells what the count was at its beginning.
    while (points.length > 2 && points[1][0] < at - this.#seconds) points.shift();
    if (this.#points.size > this.#tenants) this.#points.delete(this.#points.keys().next().value);
  }

  /**
   * Times and counts of a tenant, up to now.
   *
   * @returns {[number[], number[]]}
   */
  of(tenant, now) {
    const points = this.#points.get(tenant) ?? [];
    const first = now - this.#seconds;
    const times = points.map(([at]) => Math.max(at, first));
    const counts = points.map(([, counter]) => counter);
    return points.length ? [[...times, now], [...counts, counts.at(-1)]] : [[], []];
  }
}
