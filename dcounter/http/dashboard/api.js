import { parse } from "./json.js";

/** The page's own folder is one below the daemon's root, wherever a proxy has put that. */
const ROOT = new URL("..", import.meta.url);
const TOKEN = "dcounter-token";

/** After so long (ms) without an answer the daemon counts as unreachable. */
const PATIENCE_MS = 10_000;

/** An answer that is no success, or none at all. */
export class Refused extends Error {
  /**
   * @param {number} status 0 if there was no answer
   * @param {object} content what else the answer says
   */
  constructor(status, code, detail, content = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.content = content;
  }
}

/** The token, kept for as long as the tab is open. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

/**
 * Send a request to the daemon.
 *
 * @returns {Promise<Response>} a success
 * @throws {Refused}
 */
export async function send(path, { method = "GET", body, headers = {}, signal } = {}) {
  const shown = token.get();
  if (shown) headers = { ...headers, Authorization: `Bearer ${shown}` };
  if (body !== undefined) headers = { ...headers, "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(new URL(path, ROOT), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: signal ?? AbortSignal.timeout(PATIENCE_MS),
    });
  } catch (error) {
    throw new Refused(0, "unreachable", `no answer from the daemon: ${error.message}`);
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const { code = "unknown", detail = `the daemon answers with status ${response.status}` } = problem;
  throw new Refused(response.status, code, detail, problem);
}

/** Send a request; what the answer says. */
export async function ask(path, options) {
  const response = await send(path, options);
  try {
    return parse(await response.text());
  } catch (error) {
    throw new Refused(0, "unreachable", `the answer of the daemon broke off: ${error.message}`);
  }
}

/**
 * The path of a question about what is stored, with its parameters; those that are `undefined` are left out.
 *
 * The best answer that there is will do: it says if it is not exact.
 */
export function question(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined);
  return `${path}?${new URLSearchParams([...given, ["consistency", "available"]])}`;
}
