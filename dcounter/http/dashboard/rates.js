import { histogram, quantile, sum } from "./prometheus.js";

/** Requests that write, and requests that read what was written. Those that pages like this one send are neither. */
const WRITES = new Set([
  "POST /items",
  "POST /items/delete",
  "DELETE /items/{ID}",
  "DELETE /tenants/{tenant}",
]);
const READS = new Set([
  "GET /items/{tenant}/count",
  "GET /items/{ID}",
  "POST /items/lookup",
  "GET /counts",
  "GET /tenants/{tenant}",
  "GET /export",
]);

/** For so long (s) points are kept, and over so long a time each of them tells the latencies. */
const KEPT_S = 600;
const WINDOW_S = 10;

const isWrite = ({ method, route }) => WRITES.has(`${method} ${route}`);
const isRead = ({ method, route }) => READS.has(`${method} ${route}`);
const isEither = (labels) => isWrite(labels) || isRead(labels);

/**
 * Turns what `/metrics` answers, time and again, into rates and latencies over time.
 *
 * @property {{at: number, writes: ?number, reads: ?number, items: ?number, p50: ?number, p99: ?number}[]} points
 *   `at` in seconds since 1970; rates per second; latencies in seconds. `null`: not known.
 * @property {Map<string, number>} refused how many requests were refused while the points were made, by code
 */
export class Rates {
  points = [];
  refused = new Map();
  #states = [];

  /** @param {number} at when the daemon answered (s since 1970) */
  add(at, metrics) {
    const state = {
      at,
      writes: sum(metrics, "dcounter_http_requests_total", isWrite) ?? 0,
      reads: sum(metrics, "dcounter_http_requests_total", isRead) ?? 0,
      items: sum(metrics, "dcounter_items_stored_total"),
      latencies: histogram(metrics, "dcounter_http_request_duration_seconds", isEither),
      refused: new Map(
        (metrics.get("dcounter_refusals_total") ?? []).map(({ labels, value }) => [labels.code, value]),
      ),
    };
    const last = this.#states.at(-1);
    if (last && (state.writes < last.writes || state.reads < last.reads)) {
      // Another process counts from 0.
      this.gap(at);
    } else if (last && at > last.at) {
      this.#point(state, last);
    }
    this.#states.push(state);
    while (this.#states.length > 2 && this.#states[1].at <= at - WINDOW_S) this.#states.shift();
  }

  /** Nothing is known of the time until the next state. */
  gap(at) {
    this.#states = [];
    if (this.points.length && this.points.at(-1).writes !== null) {
      this.points.push({ at, writes: null, reads: null, items: null, p50: null, p99: null });
    }
  }

  #point(state, last) {
    const first = this.#states[0];
    const rate = (name) =>
      state[name] === null || last[name] === null ? null : (state[name] - last[name]) / (state.at - last.at);
    this.points.push({
      at: state.at,
      writes: rate("writes"),
      reads: rate("reads"),
      items: rate("items"),
      p50: quantile(0.5, state.latencies, first.latencies),
      p99: quantile(0.99, state.latencies, first.latencies),
    });
    while (this.points[0].at < state.at - KEPT_S) this.points.shift();
    for (const [code, count] of state.refused) {
      const more = count - (last.refused.get(code) ?? 0);
      if (more > 0) this.refused.set(code, (this.refused.get(code) ?? 0) + more);
    }
  }
}
