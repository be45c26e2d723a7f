// Follows the cell: an event names the newest pick, its picture is loaded beside the one that is shown, and then swapped.

const now = document.getElementById("now");
const state = document.getElementById("state");
let wanted = null;
let busy = false;
let shown = 0;

/** Shows the newest; those that came while one was loading are passed over. */
async function show() {
  if (busy || wanted === null) return;
  busy = true;
  const id = wanted;
  wanted = null;
  try {
    const answer = await fetch(`/live/now?decision=${encodeURIComponent(id)}`);
    if (answer.ok) {
      const parts = document.createElement("template");
      parts.innerHTML = await answer.text(); // our own template, escaped there
      const pictures = [...parts.content.querySelectorAll("img")].map((image) => {
        const loading = new Image();
        loading.src = image.src;
        return loading.decode().catch(() => null);
      });
      await Promise.all(pictures);
      now.replaceChildren(parts.content);
      now.dataset.shown = ++shown;
    }
  } catch {
    state.textContent = "the server does not answer";
  }
  busy = false;
  show();
}

const events = new EventSource("/live/events");
events.addEventListener("open", () => (state.textContent = "following"));
events.addEventListener("error", () => (state.textContent = "connection lost; trying again"));
events.addEventListener("pick", (event) => {
  wanted = JSON.parse(event.data).id;
  show();
});

// The camera: the newest picture while the one before is decoded; those between are passed over.
const eyes = document.getElementById("eyes");
let look = document.getElementById("look");
const rate = document.getElementById("rate");
const RATE_OVER = 10;
let newest = null;
let loading = false;
let last = null;
const times = [];

async function see() {
  if (loading || newest === null || document.hidden) return;
  loading = true;
  const { stamp, at_ms: at } = newest;
  newest = null;
  const next = new Image();
  next.src = `/live/picture?${stamp}`;
  try {
    await next.decode();
    next.id = look.id;
    next.alt = look.alt;
    next.dataset.shown = +(look.dataset.shown ?? 0) + 1;
    look.replaceWith(next);
    look = next;
    eyes.hidden = false;
    last = at;
    times.push(performance.now());
    if (times.length > RATE_OVER) times.shift();
  } catch {
    // it was replaced by the next one, or the run is over
  }
  loading = false;
  see();
}

/** How many pictures a second, or since when there is none. */
function tell() {
  if (last === null) return;
  const age = (performance.now() - times.at(-1)) / 1000;
  if (age > 3) rate.textContent = `no picture since ${new Date(last).toLocaleTimeString()}`;
  else if (times.length > 1) rate.textContent = `${((1000 * (times.length - 1)) / (times.at(-1) - times[0])).toFixed(1)} pictures a second`;
}
setInterval(tell, 500);
document.addEventListener("visibilitychange", see);

let first = true;
events.addEventListener("look", (event) => {
  newest = JSON.parse(event.data);
  see();
});
events.addEventListener("help", () => {
  if (!first) window.htmx.ajax("GET", "/live/help", "#help");
  first = false;
});
window.addEventListener("pagehide", () => events.close());
