// The page of a job hears of what happens as it happens. Without a stream it asks by itself, as the page says.

const live = () => document.getElementById("live");
const AGAIN_AFTER = 30_000;
// Even while a stream is open the page asks now and then: for what no event tells of, like money that runs up.
const ASK_AFTER = 15_000;
const NAMES = ["cloud_job_update", "training.progress", "lifecycle.stage", "checkpoint", "validation"];

let stream = null;
let askedAt = 0;
let isNews = false;

function ask() {
  isNews = true;
  if (live()?.hasAttribute("hx-get")) htmx.trigger(live(), "news");
  isNews = false;
}

function hear(address, job) {
  stream = new EventSource(address);
  for (const name of NAMES) {
    stream.addEventListener(name, (event) => {
      if (JSON.parse(event.data).job_id === job) ask();
    });
  }
  // Signed out: the page finds out for itself, and shows the way in.
  stream.addEventListener("auth", () => {
    stream.close();
    ask();
  });
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => hear(address, job), AGAIN_AFTER);
  });
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target.id !== "live") return;
  const isHeard = stream?.readyState === EventSource.OPEN && Date.now() - askedAt < ASK_AFTER;
  if (isHeard && !isNews) event.preventDefault();
  else askedAt = Date.now();
});

const place = document.querySelector("[data-events]");
if (place && live()?.hasAttribute("hx-get")) {
  hear(place.dataset.events, place.dataset.job);
  addEventListener("pagehide", () => stream.close());
}
