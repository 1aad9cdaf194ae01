/** A text, or an integer with more digits than a number of JavaScript keeps. */
const TEXT_OR_LONG = /"(?:[^"\\]|\\.)*"|(?<![\d.eE+])-?\d{16,}(?![\d.eE])/g;

/**
 * Reads JSON in which integers of 16 digits or more become texts: IDs have 64 bits, JavaScript's numbers 53.
 *
 * @param {string} text
 */
export function parse(text) {
  return JSON.parse(text.replace(TEXT_OR_LONG, (found) => (found[0] === '"' ? found : `"${found}"`)));
}
