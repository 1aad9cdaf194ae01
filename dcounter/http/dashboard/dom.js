const SVG = "http://www.w3.org/2000/svg";

/** The element of the page with an id. */
export const $ = (id) => document.getElementById(id);

/**
 * Make an element. Texts become text, never markup.
 *
 * @param {string} name of the element; `svg:` before it for one of SVG
 * @param {Object<string, *>} attributes `on...`: what to call; `undefined` or `false`: left out
 */
export function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Set a text, if it is another one: what does not change needs no layout. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** An icon of the page: one of the symbols that it begins with. */
export function icon(name) {
  return element("svg:svg", { class: "icon", "aria-hidden": "true" }, element("svg:use", { href: `#icon-${name}` }));
}

/** A name of a tenant, which may run from right to left and leaves the text around it alone. */
export function name(text) {
  return element("bdi", { class: "name" }, text);
}

/**
 * Fill a table: only what has changed is touched.
 *
 * @param {HTMLTableSectionElement} body
 * @param {(string | Node)[][]} rows the first cell of each is its heading
 */
export function fill(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, index) => {
    const row = body.rows[index] ?? body.insertRow();
    cells.forEach((cell, column) => {
      let there = row.cells[column];
      if (!there) {
        there = column ? element("td") : element("th", { scope: "row" });
        row.append(there);
      }
      if (cell instanceof Node) there.replaceChildren(cell);
      else say(there, cell);
    });
  });
}

/** Call a function at most once in some time: at once, and again after it if there was reason to. */
export function seldom(wait_ms, call) {
  let waiting = false;
  let again = false;
  const run = () => {
    waiting = true;
    again = false;
    call();
    setTimeout(() => {
      waiting = false;
      if (again) run();
    }, wait_ms);
  };
  return () => (waiting ? (again = true) : run());
}
