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
let first = true;
events.addEventListener("help", () => {
  if (!first) window.htmx.ajax("GET", "/live/help", "#help");
  first = false;
});
window.addEventListener("pagehide", () => events.close());
