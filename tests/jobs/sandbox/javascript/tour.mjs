// Goes through Replicate's API by its official client, given nothing but an address and a token, and prints what it saw as JSON.
import { File } from "node:buffer";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { argv, stdout } from "node:process";
import Replicate, { validateWebhook } from "replicate";

const [baseUrl, auth, archive, inputs] = argv.slice(2);
const replicate = new Replicate({ baseUrl, auth });
const given = JSON.parse(inputs);

const deliveries = [];
const receiver = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  deliveries.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
  response.end();
});
await new Promise((ready) => receiver.listen(0, "127.0.0.1", ready));

const account = await replicate.accounts.current();
const model = await replicate.models.get("simpletuner", "advanced-trainer-h100");
const versions = await replicate.models.versions.list("simpletuner", "advanced-trainer-h100");
const hardware = await replicate.hardware.list();

const file = await replicate.files.create(new File([await readFile(archive)], "d.zip", { type: "application/zip" }), { job: "j-1" });
const sameFile = await replicate.files.get(file.id);

const created = await replicate.predictions.create({
  version: model.latest_version.id,
  input: { ...given, images: file.urls.get },
  webhook: `http://127.0.0.1:${receiver.address().port}/hook`,
  webhook_events_filter: ["completed"],
});
const trained = await replicate.wait(created, { interval: 50 });
while (deliveries.length === 0) await new Promise((later) => setTimeout(later, 20));
const secret = await replicate.webhooks.default.secret.get();
const signed = await validateWebhook(deliveries[0], secret.key);
const forged = await validateWebhook({ ...deliveries[0], body: `${deliveries[0].body} ` }, secret.key);

const endless = await replicate.predictions.create({
  version: model.latest_version.id,
  input: { ...given, images: file.urls.get, max_train_steps: 10_000_000 },
});
await replicate.predictions.cancel(endless.id);
const canceled = await replicate.wait(endless, { interval: 50 });

const pages = [];
for (let made = 2; made < 102; made++) await replicate.predictions.create({ version: model.latest_version.id, input: given });
for await (const page of replicate.paginate(replicate.predictions.list)) pages.push(page.map((each) => each.id));

let refusal;
try {
  await replicate.predictions.create({ version: "0".repeat(64), input: {} });
} catch (error) {
  refusal = { status: error.response.status, message: error.message };
}
await replicate.files.delete(file.id);
receiver.closeAllConnections();
receiver.close();

stdout.write(
  JSON.stringify({
    username: account.username,
    newestIsLatest: versions.results[0].id === model.latest_version.id,
    skus: hardware.map((each) => each.sku),
    file: { name: file.name, size: file.size, metadata: file.metadata, isTheSame: sameFile.etag === file.etag },
    trained: { status: trained.status, output: trained.output },
    webhook: { signed, forged, status: JSON.parse(deliveries[0].body).status },
    canceled: canceled.status,
    pages: pages.map((page) => page.length),
    oldest: pages.at(-1).at(-1) === created.id,
    refusal,
  }),
);
