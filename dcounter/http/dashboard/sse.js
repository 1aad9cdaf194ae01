/**
 * Reads Server-Sent Events from text that comes in pieces.
 *
 * `EventSource` would do that, but it cannot send a token.
 */
export class EventParser {
  #rest = "";

  /** The id of the last event that had one. */
  lastId = "";

  /**
   * The events that are complete now: what each is called, and its data.
   *
   * @param {string} text
   * @returns {{name: string, data: string}[]}
   */
  feed(text) {
    const blocks = (this.#rest + text).split("\n\n");
    this.#rest = blocks.pop();
    const events = [];
    for (const block of blocks) {
      let name = "message";
      const data = [];
      for (const line of block.split("\n")) {
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
        if (field === "event") name = value;
        else if (field === "data") data.push(value);
        else if (field === "id") this.lastId = value;
      }
      if (data.length) events.push({ name, data: data.join("\n") });
    }
    return events;
  }
}
