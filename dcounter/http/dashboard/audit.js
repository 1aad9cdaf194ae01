import { ask } from "./api.js";
import { $, icon, element, say } from "./dom.js";
import { age, duration, integer, nodes } from "./format.js";
import { login } from "./login.js";

const PHASES = {
  counting: "Counting",
  comparing: "Comparing",
  repairing: "Repairing",
  waiting: "Waiting to begin anew",
};

/** An audit that runs is asked about this often (ms). */
const OFTEN_MS = 400;

/**
 * The card that tells of audits, and starts one.
 *
 * @property {?object} state what `/audit` answered last
 */
export class Audit {
  state = null;
  #at = 0;
  #problem = "";
  #changed;
  #shown = "";
  #timer = null;
  #asking = false;

  /** @param {() => void} changed is called when there is something new, another token included */
  constructor(changed) {
    this.#changed = changed;
    $("audit-run").addEventListener("click", () => this.#run());
  }

  /** @throws {Refused} */
  async refresh() {
    this.state = await ask("audit");
    this.#at = Date.now();
    this.show();
    clearTimeout(this.#timer);
    if (this.state.running) this.#timer = setTimeout(() => this.refresh().catch(() => {}), OFTEN_MS);
  }

  async #run() {
    this.#problem = "";
    this.#asking = true;
    this.show();
    // The answer comes when all is counted; meanwhile it is asked how far that is.
    const running = ask("audit", { method: "POST", body: {}, signal: AbortSignal.timeout(24 * 3_600_000) });
    this.#timer = setTimeout(() => this.refresh().catch(() => {}), 100);
    try {
      await running;
    } catch (refused) {
      if (refused.status === 401 || refused.status === 403) {
        const why = `An audit is for operators: ${refused.message}.`;
        if (await login(why)) {
          this.#changed();
          return this.#run();
        }
      } else {
        this.#problem = refused.message;
      }
    }
    this.#asking = false;
    await this.refresh().catch(() => {});
    this.#changed();
  }

  /** Show what is known; the age grows by itself. */
  show() {
    const { last, running, age_ms } = this.state ?? {};
    say($("audit-age"), last ? age((age_ms + Date.now() - this.#at) / 1000) : "");
    const progress = $("audit-progress");
    progress.hidden = !running;
    if (running) progress.value = running.counted;
    say($("audit-run"), running ? (PHASES[running.phase] ?? "Audit runs") : "Audit now");
    $("audit-run").disabled = this.#asking || Boolean(running);
    const [level, title, ...lines] = this.#words(last);
    // It is read aloud when it changes.
    const shown = JSON.stringify([level, title, lines]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const result = $("audit-result");
    result.dataset.level = level;
    result.replaceChildren(icon(level), element("b", {}, title), ...lines.map((line) => element("p", {}, line)));
  }

  #words(last) {
    if (this.#problem) return ["warn", "Not audited", this.#problem];
    if (!last) return ["note", "No audit yet", "None has been made since the daemon started."];
    const left = last.not_audited.map(({ node, why }) => `Node ${node} was not audited: ${why}.`);
    const facts = `${integer(last.items)} items, counted in ${duration(last.duration_ms / 1000)}. Digest ${last.digest}.`;
    if (!last.equal) return ["bad", "The nodes differ", "See above for what to do.", facts, ...left];
    const who = last.nodes.length === 1 ? `${nodes(last.nodes)} counts right` : `${nodes(last.nodes)} are equal`;
    return [left.length ? "warn" : "good", who[0].toUpperCase() + who.slice(1), facts, ...left];
  }
}
