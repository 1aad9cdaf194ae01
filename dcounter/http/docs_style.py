"""
How the page `/docs` looks: in light and dark, on a phone and on a desk.
"""

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --paper: #fdfdfb; --panel: #f4f4f0; --line: #e2e2dc; --ink: #1d2126; --soft: #5a626d;
  --link: #0a5cad;
  --get: #0b6e4f; --post: #0a5cad; --delete: #b3261e; --text: #7a3e00; --number: #6b2fa0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171b; --panel: #1d2026; --line: #2e323a; --ink: #e3e6ea; --soft: #9da6b2;
    --link: #85bdf8;
    --get: #67d2a6; --post: #85bdf8; --delete: #ff9b92; --text: #e6b980; --number: #c9a4f5;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1.5rem; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: .2em; }
a:focus-visible, summary:focus-visible, pre:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; border-radius: 3px;
}
code, pre, .path, .method {
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
code { font-size: .875em; overflow-wrap: anywhere; }
p { margin: .5rem 0; }
h1 { font-size: 2.25rem; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 .5rem; }
h2 { font-size: 1.5rem; line-height: 1.3; letter-spacing: -.01em; margin: 4.5rem 0 0; }
h3 { font-size: 1.0625rem; line-height: 1.5; font-weight: 600; margin: 0; }
h4 {
  font-size: .75rem; font-weight: 600; letter-spacing: .06em; text-transform: uppercase; color: var(--soft);
  margin: 1.75rem 0 .5rem;
}
h4 code { font-size: .8125rem; font-weight: 400; letter-spacing: 0; text-transform: none; margin-left: .4em; }
.lead { font-size: 1.1875rem; line-height: 1.55; color: var(--soft); max-width: 40rem; margin: 0 0 1rem; }
.quiet { color: var(--soft); font-size: .9375rem; }

.contents { padding: 1.25rem; border-bottom: 1px solid var(--line); font-size: .9375rem; }
.contents a { color: var(--soft); text-decoration: none; }
.contents a:hover { color: var(--link); text-decoration: underline; }
.contents .home { color: var(--ink); font-weight: 650; }
.contents > ul {
  list-style: none; margin: .5rem 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem;
}
.contents ul ul { display: none; }
main { max-width: 78rem; padding: 2rem 1.25rem 5rem; margin: 0 auto; }

.route { padding: 2.25rem 0 2.5rem; border-bottom: 1px solid var(--line); }
.route:last-of-type { border-bottom: 0; }
.route h3 a { color: inherit; text-decoration: none; display: flex; flex-wrap: wrap; gap: .1rem .7rem; }
.route h3 a:hover .path { text-decoration: underline; text-underline-offset: .25em; }
.method { font-size: .8125rem; font-weight: 700; line-height: 1.625rem; }
.get { color: var(--get); } .post { color: var(--post); } .delete { color: var(--delete); }
.path { font-weight: 600; overflow-wrap: anywhere; }
.path var { font-style: normal; color: var(--soft); }
.notes { margin: .25rem 0 0; font-size: .875rem; color: var(--soft); }
.notes span + span::before { content: "\\00b7"; margin: 0 .5em; }

dl { margin: 0; }
.fields > div { padding: .6rem 0; border-top: 1px solid var(--line); }
.fields > div:first-child { border-top: 0; padding-top: .2rem; }
.fields dt { display: flex; flex-wrap: wrap; gap: 0 .6rem; align-items: baseline; }
.fields dt > code { font-weight: 600; font-size: .875rem; }
.fields dt span code { font-size: 1em; }
.fields dt span { color: var(--soft); font-size: .8125rem; }
.fields dd { margin: .1rem 0 0; font-size: .9375rem; }
.fields dd .fields { margin: .4rem 0 0; padding-left: 1rem; border-left: 2px solid var(--line); }
details { margin-top: 1.25rem; }
summary { cursor: pointer; font-size: .9375rem; color: var(--soft); }
summary:hover { color: var(--link); }
details > :not(summary) { margin-top: .6rem; }
.codes { list-style: none; margin: 0; padding: 0; font-size: .875rem; }
.codes li { display: flex; gap: .7rem; padding: .12rem 0; }
.codes .status { color: var(--soft); font-variant-numeric: tabular-nums; }

.example + .example { margin-top: 1.5rem; }
.example p { font-size: .875rem; color: var(--soft); margin: 0 0 .5rem; }
pre {
  margin: 0; padding: .9rem 1rem; background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  font-size: .8125rem; line-height: 1.6; overflow-x: auto; tab-size: 2;
}
pre + pre { margin-top: .5rem; }
.answer { border-style: dashed; }
.k { color: var(--link); } .s { color: var(--text); } .n { color: var(--number); }

.refusal { padding: 1.35rem 0; border-bottom: 1px solid var(--line); }
.refusal:target h3, .route:target h3 { box-shadow: -.9rem 0 0 var(--paper), -1.1rem 0 0 var(--link); }
.refusal details { margin-top: .6rem; }
.refusal h3 .status { color: var(--soft); margin-right: .7rem; font-variant-numeric: tabular-nums; }
.outcomes { max-width: 40rem; margin: 1rem 0; }
.outcomes > div { display: grid; grid-template-columns: 9rem minmax(0, 1fr); }
.outcomes dd { margin: 0; }
footer { margin-top: 4rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }

@media (min-width: 62rem) {
  body { display: grid; grid-template-columns: 17.5rem minmax(0, 1fr); }
  .contents {
    position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 2.25rem 1.25rem 2.25rem 1.75rem;
    border-bottom: 0; border-right: 1px solid var(--line); font-size: .875rem;
  }
  .contents > ul { display: block; margin-top: 1.5rem; }
  .contents > ul > li { margin-top: 1.1rem; }
  .contents > ul > li > a { color: var(--ink); font-weight: 600; }
  .contents ul ul { display: block; list-style: none; margin: .3rem 0 0; padding: 0; }
  .contents ul ul a {
    display: grid; grid-template-columns: 3.1rem minmax(0, 1fr); padding: .14rem 0; line-height: 1.45;
  }
  .contents .method { font-size: .6875rem; line-height: 1.3rem; }
  .contents .path { font-size: .75rem; font-weight: 400; line-height: 1.3rem; }
  main { padding: 3.5rem 3rem 6rem; width: 100%; }
}
@media (min-width: 82rem) {
  .route, .start { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 30rem); column-gap: 3rem; }
  .examples {
    position: sticky; top: 1.5rem; align-self: start; max-height: calc(100vh - 3rem); overflow-y: auto;
  }
}
@media (max-width: 81.99rem) { .examples { margin-top: 1.75rem; } }
@media print { .contents { display: none; } body { display: block; } }
"""
