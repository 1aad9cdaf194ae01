import { ask, question } from "./api.js";
import { Chart } from "./charts.js";
import { $, element, name, say, seldom } from "./dom.js";
import { UNKNOWN, integer, nodes, tenantIn, visible } from "./format.js";

const SUGGESTED = 8;
const PAUSE_MS = 120;
const IDS = 200;
/** The list of IDs follows the count, but not that closely (ms). */
const IDS_MS = 2_000;

/** Browsers take these for steps in a path, however they are written. */
const NO_SEGMENT = new Set([".", ".."]);

/**
 * The search for a tenant, and what is known of the one that was found.
 *
 * @property {?string} chosen the tenant that is shown
 */
export class Tenant {
  chosen = null;
  #history;
  #chose;
  #chart = new Chart("tenant", { series: [{ name: "Items", colour: "writes" }], format: integer, counts: true, filled: true });
  #timer = null;
  #asked = 0;
  #cursor;
  #idsSeldom = seldom(IDS_MS, () => this.#pages === 1 && this.#ids(true).catch(() => {}));
  #pages = 0;
  #denied = false;
  #input = $("tenant-input");
  #list = $("suggestions");

  /**
   * @param {History} history of counts
   * @param {() => void} chose is called when another one is shown
   */
  constructor(history, chose) {
    this.#history = history;
    this.#chose = chose;
    this.#input.addEventListener("input", () => this.#typed());
    this.#input.addEventListener("keydown", (event) => this.#key(event));
    this.#input.addEventListener("blur", () => this.#close());
    // A click must not take the focus from the field before it is a choice.
    this.#list.addEventListener("mousedown", (event) => event.preventDefault());
    $("search").addEventListener("submit", (event) => {
      event.preventDefault();
      const marked = this.#list.querySelector('[aria-selected="true"]');
      if (marked || this.#input.value) this.choose(marked?.dataset.tenant ?? this.#input.value);
    });
    $("ids-more").addEventListener("click", () => this.#ids().catch(({ message }) => say($("ids-note"), message)));
    addEventListener("hashchange", () => this.follow());
  }

  /** Show a tenant. */
  choose(tenant) {
    this.#close();
    const hash = `#tenant=${encodeURIComponent(tenant)}`;
    if (location.hash !== hash) history.replaceState(null, "", hash);
    if (this.chosen === tenant) return this.refresh();
    this.chosen = tenant;
    this.#input.value = tenant;
    this.#chose();
    $("tenant").hidden = false;
    $("tenant-none").hidden = true;
    $("tenant-name").replaceChildren(name(visible(tenant)));
    say($("tenant-count"), UNKNOWN);
    say($("tenant-note"), "");
    this.#chart.clear();
    return this.refresh();
  }

  /** Ask for the count and the IDs, now. */
  async refresh() {
    this.#denied = false;
    await this.refreshCount();
    if (!this.#denied) await this.#ids(true).catch(() => {});
  }

  /** Ask for the count, now, unless the token may not read this tenant. */
  async refreshCount() {
    const tenant = this.chosen;
    if (tenant === null || this.#denied) return;
    try {
      const found = await ask(question("counts"), { method: "POST", body: { tenants: [tenant] } });
      if (tenant !== this.chosen) return;
      this.#history.add(tenant, Date.now() / 1000, found.counts[0].counter);
      say($("tenant-note"), found.missing ? `may lack what ${nodes(found.missing)} took` : "");
      this.show();
    } catch (refused) {
      if (tenant !== this.chosen) return;
      this.#denied = refused.status === 403;
      say($("tenant-note"), refused.message);
      if (this.#denied) $("ids").replaceChildren();
    }
  }

  /** The tenant that is shown owns other items. If more IDs were asked for, they stay: they are still being read. */
  changed() {
    this.#idsSeldom();
  }

  /** Show the count as it is known now, and over the last minutes. */
  show() {
    if (this.chosen === null) return;
    const data = this.#history.of(this.chosen, Date.now() / 1000);
    if (!data[0].length) return;
    const counter = data[1].at(-1);
    say($("tenant-count"), integer(counter));
    say($("tenant-word"), counter === 1 ? "item" : "items");
    this.#chart.show(data);
  }

  /** Show the tenant that the address of the page names, if it names one. */
  follow() {
    const tenant = tenantIn(location.hash);
    if (tenant !== null) this.choose(tenant);
  }

  /** @param {boolean} anew whether to begin with the first of them */
  async #ids(anew = false) {
    const tenant = this.chosen;
    if (tenant === null) return;
    const list = $("ids");
    if (NO_SEGMENT.has(tenant)) {
      list.replaceChildren();
      say($("ids-note"), "A browser cannot ask for the IDs of a tenant with this name; curl --path-as-is can.");
      return;
    }
    const path = `tenants/${encodeURIComponent(tenant)}/items`;
    const page = await ask(question(path, { limit: IDS, cursor: anew ? undefined : this.#cursor }));
    if (tenant !== this.chosen) return;
    const made = page.IDs.map((id) => element("span", {}, String(id)));
    if (anew) list.replaceChildren(...made);
    else list.append(...made);
    this.#cursor = page.cursor;
    this.#pages = anew ? 1 : this.#pages + 1;
    $("ids-more").hidden = !page.cursor;
    const shown = list.children.length;
    say($("ids-note"), shown ? `${page.cursor ? "The first " : ""}${integer(shown)}, in ascending order` : "It owns none");
  }

  #typed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#suggest(), PAUSE_MS);
  }

  async #suggest() {
    const asked = ++this.#asked;
    const prefix = this.#input.value;
    if (!prefix) return this.#close();
    let tenants;
    try {
      ({ tenants } = await ask(question("tenants", { prefix, sort: "-count", limit: SUGGESTED })));
    } catch (refused) {
      // With a token that is bound to other tenants, one may still be asked for by its whole name.
      return this.#close();
    }
    if (asked !== this.#asked || document.activeElement !== this.#input) return;
    const options = tenants.map(({ tenant, counter }, index) =>
      element(
        "li",
        { role: "option", id: `option-${index}`, "data-tenant": tenant, "aria-selected": "false" },
        element("bdi", {}, visible(tenant)),
        element("span", {}, integer(counter)),
      ),
    );
    for (const option of options) option.addEventListener("click", () => this.choose(option.dataset.tenant));
    this.#list.replaceChildren(...options);
    this.#open(options.length > 0);
  }

  #key(event) {
    const options = [...this.#list.children];
    const now = options.findIndex((each) => each.getAttribute("aria-selected") === "true");
    if (event.key === "Escape") this.#close();
    else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && options.length && !this.#list.hidden) {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      const next = now < 0 && step < 0 ? options.length - 1 : (now + step + options.length) % options.length;
      options.forEach((each, index) => each.setAttribute("aria-selected", String(index === next)));
      this.#input.setAttribute("aria-activedescendant", options[next].id);
      options[next].scrollIntoView({ block: "nearest" });
    }
  }

  #open(wanted) {
    this.#list.hidden = !wanted;
    this.#input.setAttribute("aria-expanded", String(wanted));
    this.#input.removeAttribute("aria-activedescendant");
  }

  #close() {
    clearTimeout(this.#timer);
    this.#asked++;
    this.#list.replaceChildren();
    this.#open(false);
  }
}
