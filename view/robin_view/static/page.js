// What every page needs: the word that changes carry, and a place where failures are said.

const TOKEN = document.querySelector('meta[name="page-token"]').content;
const SHOWN_MS = 8000;

/** Say one line to the person, also to a screen reader. */
export function say(text) {
  const line = document.createElement("div");
  line.textContent = text;
  document.getElementById("said").append(line);
  setTimeout(() => line.remove(), SHOWN_MS);
}

/** Ask our own server. body: sent as JSON. A refusal is said, and thrown. */
export async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = { accept: "application/json", "x-robin-token": TOKEN };
  if (body !== undefined) headers["content-type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const answer = await fetch(path, { method, headers, body: sent, signal });
  const text = await answer.text();
  if (!answer.ok) {
    say(text.slice(0, 300));
    throw new Error(text.slice(0, 300));
  }
  return text ? JSON.parse(text) : null;
}

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["x-robin-token"] = TOKEN;
});
document.addEventListener("htmx:responseError", (event) => say(event.detail.xhr.responseText.slice(0, 300)));
document.addEventListener("htmx:sendError", () => say("the server does not answer"));
