import { Refused, send } from "./api.js";
import { EventParser } from "./sse.js";

/** The daemon says something every 15 s. */
const SILENCE_MS = 40_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8_000;

/**
 * Reads `/events`, and begins again whenever they end.
 *
 * Calls back: `event(name, data)` for each event; `down(refused, wait_ms)` when there are no more, and how long it
 * waits before it tries again.
 */
export class Feed {
  #calls;
  #lastId = "";
  #wait_ms = FIRST_WAIT_MS;
  #abort = null;
  #timer = null;

  constructor(calls) {
    this.#calls = calls;
  }

  /** Connect, now, whatever it is doing. */
  async start() {
    this.stop();
    const abort = (this.#abort = new AbortController());
    let refused = new Refused(0, "ended", "the daemon has ended the connection");
    try {
      await this.#read(abort);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      refused = error;
    }
    // Another one was started meanwhile.
    if (abort !== this.#abort) return;
    abort.abort();
    this.#calls.down(refused, this.#wait_ms);
    this.#timer = setTimeout(() => this.start(), this.#wait_ms);
    this.#wait_ms = Math.min(2 * this.#wait_ms, LONGEST_WAIT_MS);
  }

  /** Read no more, and do not try to. */
  stop() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
  }

  /** Begin anew, not after the last event: another token may read others. */
  forget() {
    this.#lastId = "";
    this.#wait_ms = FIRST_WAIT_MS;
  }

  async #read(abort) {
    let silence = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
      const headers = { Accept: "text/event-stream" };
      if (this.#lastId) headers["Last-Event-ID"] = this.#lastId;
      const response = await send("events", { headers, signal: abort.signal });
      if (abort !== this.#abort) return;
      this.#wait_ms = FIRST_WAIT_MS;
      const parser = new EventParser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || abort !== this.#abort) return;
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort(), SILENCE_MS);
        for (const { name, data } of parser.feed(value)) this.#calls.event(name, JSON.parse(data));
        this.#lastId = parser.lastId || this.#lastId;
      }
    } catch (error) {
      if (error instanceof Refused) throw error;
      throw new Refused(0, "ended", `the connection to the daemon broke: ${error.message}`);
    } finally {
      clearTimeout(silence);
    }
  }
}
