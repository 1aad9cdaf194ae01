const INTEGER = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** What a name may hold that would change how the text around it looks, or that cannot be seen. Emoji need joiners. */
const UNSEEN =
  /[\p{Cc}\p{Zl}\p{Zp}\u00ad\u061c\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]|(?<!\p{Emoji}\ufe0f?)\u200d/gu;

/** What stands where nothing is known. */
export const UNKNOWN = "–";

export const integer = (value) => (value === null || value === undefined ? UNKNOWN : INTEGER.format(value));

/** A number in few characters: 12.3K. */
export const short = (value) => SHORT.format(value);

/** A rate per second, without a unit. */
export function rate(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return value > 0 && value < 10 ? value.toFixed(1) : integer(value);
}

/** @param {?number} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds === 0) return "0";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(seconds < 0.01 ? 2 : 3))} ms`;
  if (seconds < 60) return `${Number(seconds.toPrecision(2))} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** How long ago something was, in words. */
export function age(seconds) {
  if (seconds < 2) return "just now";
  if (seconds < 100) return `${Math.round(seconds)} seconds ago`;
  if (seconds < 6_000) return `${Math.round(seconds / 60)} minutes ago`;
  if (seconds < 172_800) return `${Math.round(seconds / 3_600)} hours ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}

export function bytes(value) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${Number(value.toPrecision(value < 1024 ? 3 : 4))} ${units[unit]}`;
}

/** @param {number} at s since 1970 */
export const clock = (at) => CLOCK.format(new Date(at * 1000));

/** "node 1", "nodes 1 and 3", "nodes 0 to 3" */
export function nodes(ids) {
  if (ids.length === 1) return `node ${ids[0]}`;
  const row = ids.length > 2 && ids.at(-1) - ids[0] === ids.length - 1;
  if (row) return `nodes ${ids[0]} to ${ids.at(-1)}`;
  return `nodes ${ids.slice(0, -1).join(", ")} and ${ids.at(-1)}`;
}

/** The tenant that the part of an address behind `#` names; `null` if it names none. */
export function tenantIn(hash) {
  const [, text] = /^#tenant=(.+)/.exec(hash) ?? [];
  if (text === undefined) return null;
  try {
    return decodeURIComponent(text);
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    // It was written by hand, such as "50%".
    return text;
  }
}

/** A name of a tenant as it can be seen: what is invisible, or turns the text around it, is spelled out. */
export function visible(name) {
  return name.replace(UNSEEN, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
}
