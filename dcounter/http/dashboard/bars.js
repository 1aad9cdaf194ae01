import { $, element, say } from "./dom.js";
import { integer, visible } from "./format.js";

/**
 * The largest tenants as bars that move to their places.
 *
 * @param {(tenant: string) => void} choose is called with the tenant that was clicked
 */
export class Bars {
  #body = $("top");
  #rows = new Map();
  #choose;

  constructor(choose) {
    this.#choose = choose;
  }

  /** @param {{tenant: string, counter: number}[]} tenants the largest first */
  show(tenants, chosen) {
    const before = new Map([...this.#rows].map(([tenant, { row }]) => [tenant, row.offsetTop]));
    const focused = document.activeElement;
    const most = tenants[0]?.counter ?? 1;
    const there = new Set(tenants.map(({ tenant }) => tenant));
    for (const [tenant, { row }] of this.#rows) {
      if (!there.has(tenant)) {
        row.remove();
        this.#rows.delete(tenant);
      }
    }
    tenants.forEach(({ tenant, counter }, index) => {
      const made = this.#rows.get(tenant) ?? this.#made(tenant);
      if (this.#body.rows[index] !== made.row) this.#body.insertBefore(made.row, this.#body.rows[index] ?? null);
      made.bar.style.transform = `scaleX(${Math.max(counter / most, 0.004)})`;
      say(made.count, integer(counter));
      made.row.classList.toggle("chosen", tenant === chosen);
    });
    if (document.activeElement !== focused && this.#body.contains(focused)) focused.focus({ preventScroll: true });
    this.#move(before);
    $("top-empty").hidden = tenants.length > 0;
  }

  #made(tenant) {
    const text = visible(tenant);
    const button = element(
      "button",
      { type: "button", title: text, onclick: () => this.#choose(tenant) },
      element("bdi", {}, text),
    );
    const made = { bar: element("span", { class: "bar-of" }), count: element("td") };
    made.row = element("tr", {}, element("th", { scope: "row" }, button), element("td", {}, made.bar), made.count);
    this.#rows.set(tenant, made);
    return made;
  }

  /** Let rows that are elsewhere now come from where they were. */
  #move(before) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const [tenant, { row }] of this.#rows) {
      const by = (before.get(tenant) ?? row.offsetTop) - row.offsetTop;
      if (by) row.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], { duration: 350, easing: "ease" });
    }
  }
}
