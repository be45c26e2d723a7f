// The picture of a decision: layers, opacity, zoom, and the question that a click asks.

import { say } from "./page.js";

const LEAST_ZOOM = 1;
const MOST_ZOOM = 12;
const MOVED_PX = 4; // a shorter way between down and up is a click

const stage = document.getElementById("stage");
const article = document.querySelector("article[data-decision]");
const base = `/d/${article.dataset.decision}`;
const answer = document.getElementById("answer");

if (stage) {
  layers();
  zooming();
  questions();
}

function layers() {
  const sheet = stage.querySelector(".sheet");
  for (const button of document.querySelectorAll("[data-layer]")) {
    const show = () => {
      const on = button.getAttribute("aria-pressed") === "true";
      for (const part of sheet.querySelectorAll(`[data-is="${button.dataset.layer}"]`)) {
        if (on && part.dataset.src && !part.src) part.src = part.dataset.src;
        part.toggleAttribute("hidden", !on);
      }
    };
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
      show();
    });
    show();
  }
  const opacity = document.getElementById("opacity");
  const apply = () => stage.style.setProperty("--opacity", opacity.value / 100);
  opacity.addEventListener("input", apply);
  apply();
}

function zooming() {
  const sheet = stage.querySelector(".sheet");
  const at = { x: 0, y: 0, zoom: 1 };
  const apply = () => {
    const { clientWidth: width, clientHeight: height } = stage;
    at.x = Math.min(0, Math.max(at.x, width * (1 - at.zoom)));
    at.y = Math.min(0, Math.max(at.y, height * (1 - at.zoom)));
    sheet.style.transform = `translate(${at.x}px, ${at.y}px) scale(${at.zoom})`;
  };
  const zoom = (factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) => {
    const next = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, at.zoom * factor));
    at.x = x - (x - at.x) * (next / at.zoom);
    at.y = y - (y - at.y) * (next / at.zoom);
    at.zoom = next;
    apply();
  };
  const all = () => {
    Object.assign(at, { x: 0, y: 0, zoom: 1 });
    apply();
  };
  const ways = { in: () => zoom(1.4), out: () => zoom(1 / 1.4), all };
  for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", ways[button.dataset.zoom]);
  stage.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && at.zoom === 1 && event.deltaY > 0) return; // the page scrolls on
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX - box.left, event.clientY - box.top);
    },
    { passive: false },
  );
  const keys = { "+": ways.in, "=": ways.in, "-": ways.out, 0: all };
  const steps = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
  stage.addEventListener("keydown", (event) => {
    if (keys[event.key]) keys[event.key]();
    else if (steps[event.key] && at.zoom > 1) {
      at.x += steps[event.key][0];
      at.y += steps[event.key][1];
      apply();
    } else return;
    event.preventDefault();
  });
  stage.addEventListener("pointerdown", (event) => {
    const from = { x: event.clientX, y: event.clientY, left: at.x, top: at.y };
    let moved = false;
    const move = (now) => {
      moved ||= Math.hypot(now.clientX - from.x, now.clientY - from.y) > MOVED_PX;
      if (!moved || at.zoom === 1) return;
      at.x = from.left + now.clientX - from.x;
      at.y = from.top + now.clientY - from.y;
      apply();
    };
    const up = (now) => {
      stage.removeEventListener("pointermove", move);
      if (!moved) clicked(now);
    };
    stage.addEventListener("pointermove", move);
    stage.addEventListener("pointerup", up, { once: true });
    stage.addEventListener("pointerleave", () => stage.removeEventListener("pointermove", move), { once: true });
  });
}

/** In pixels of the frame, whatever the zoom. */
function clicked(event) {
  const svg = stage.querySelector("svg");
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const [x, y] = [Math.floor(point.x), Math.floor(point.y)];
  if (x < 0 || y < 0) return;
  const spot = document.getElementById("spot");
  spot.removeAttribute("hidden");
  spot.setAttribute("transform", `translate(${x} ${y})`);
  why({ x, y });
}

function questions() {
  const form = document.getElementById("ask");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    document.getElementById("spot").setAttribute("hidden", "");
    why({ parcel: form.elements.parcel.value });
  });
}

let asked = 0;

/** Ask the planner; only the answer to the last question is shown. */
async function why(question) {
  const mine = ++asked;
  const cups = [...document.querySelectorAll("#ask [name=cup]:checked")].map((box) => box.value);
  const query = new URLSearchParams({ ...question, ...(cups.length ? { cups: cups.join(" ") } : {}) });
  answer.setAttribute("aria-busy", "true");
  const reply = await fetch(`${base}/why?${query}`).catch(() => null);
  const text = reply ? await reply.text() : "the server does not answer";
  if (mine !== asked) return;
  answer.removeAttribute("aria-busy");
  if (reply?.ok) answer.innerHTML = text; // our own template, escaped there
  else say(text.slice(0, 300));
}
