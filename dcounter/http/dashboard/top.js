/**
 * The tenants that own most, kept right by the events that tell of changes.
 *
 * It knows more tenants than are shown, so that one can fall out and another is there to take its place. Of those
 * that it does not know, it knows that each owns at most `floor`.
 *
 * @property {boolean} stale whether too few are known: ask the daemon, and `load` what it answers
 */
export class Top {
  #counts = new Map();
  #floor = 0;
  #shown;
  #known;

  constructor({ shown = 10, known = 100 } = {}) {
    this.#shown = shown;
    this.#known = known;
  }

  /**
   * Begin anew with what the daemon answers.
   *
   * @param {{tenant: string, counter: number}[]} tenants those that own most
   * @param {boolean} more whether there are others
   */
  load(tenants, more) {
    this.#counts = new Map(tenants.map(({ tenant, counter }) => [tenant, counter]));
    this.#floor = more && tenants.length ? tenants.at(-1).counter : 0;
  }

  /** A tenant owns another number of items. */
  apply(tenant, counter) {
    if (counter > this.#floor) this.#counts.set(tenant, counter);
    else this.#counts.delete(tenant);
    if (this.#counts.size > 4 * this.#known) this.#forget();
  }

  /** @returns {{tenant: string, counter: number}[]} those to show, the largest first */
  list() {
    return this.#sorted().slice(0, this.#shown);
  }

  get stale() {
    return this.#floor > 0 && this.#counts.size < this.#shown;
  }

  #sorted() {
    const all = [...this.#counts].map(([tenant, counter]) => ({ tenant, counter }));
    return all.sort((one, other) => other.counter - one.counter || (one.tenant < other.tenant ? -1 : 1));
  }

  #forget() {
    const kept = this.#sorted().slice(0, this.#known + 1);
    this.#floor = Math.max(this.#floor, kept.pop().counter);
    this.#counts = new Map(kept.map(({ tenant, counter }) => [tenant, counter]));
    for (const [tenant, counter] of this.#counts) {
      if (counter <= this.#floor) this.#counts.delete(tenant);
    }
  }
}
