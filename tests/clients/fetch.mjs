// The steps of tests/support/clients.py, with the fetch of Node.js.
const [base, firstText, tenant] = process.argv.slice(2);
const first = Number(firstText);
const one = JSON.stringify([{ ID: first, tenant }]);
const thousand = JSON.stringify(Array.from({ length: 1000 }, (_, i) => ({ ID: first + 1 + i, tenant })));

const tell = (step, status, value) => console.log(JSON.stringify([step, status, value]));
const post = (body, more = {}) => fetch(`${base}/items`, { method: "POST", body, ...more });
const count = async () => {
  const response = await fetch(`${base}/items/${tenant}/count`);
  return [response.status, (await response.json()).counter];
};

async function items(step, response) {
  tell(step, response.status, (await response.json()).items);
}

async function refusal(step, response) {
  tell(step, response.status, (await response.json()).code);
}

await items("one item", await post(one));
await items("1,000 items", await post(thousand));
const chunks = new ReadableStream({
  start(controller) {
    const encoder = new TextEncoder();
    for (let at = 0; at < thousand.length; at += 1000) {
      controller.enqueue(encoder.encode(thousand.slice(at, at + 1000)));
    }
    controller.close();
  },
});
await items("1,000 items in chunks", await post(chunks, { duplex: "half" }));
let found = [];
for (let i = 0; i < 200; i++) found.push(await count());
tell("counts, one after the other", ...same(found));
found = await Promise.all(Array.from({ length: 200 }, count));
tell("counts, all at once", ...same(found));
const head = await fetch(`${base}/healthz`, { method: "HEAD" });
tell("HEAD", head.status, await head.text());
await refusal("no such path", await fetch(`${base}/nothing`));
await refusal("an invalid item", await post("[{}]"));
await refusal("too large", await post(" ".repeat(5_000_000)));
await count();
await new Promise((resolve) => setTimeout(resolve, 1500));
await items("after a pause", await post(one));

function same(answers) {
  const different = answers.find((each) => String(each) !== String(answers[0]));
  return different ?? answers[0];
}
