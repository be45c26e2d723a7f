// The annotation page: tools, keyboard, and keeping what was done.

import { ask, say } from "../page.js";
import { draftOf, Keeper } from "./keeper.js";
import { IGNORE, Labels } from "./labels.js";
import { List } from "./list.js";
import { Stage } from "./stage.js";

const TOOLS = { v: "select", b: "brush", e: "erase", p: "polygon", c: "box", s: "split", j: "join", a: "add" };
const ACTIONS = { u: "undo", r: "redo", x: "ignore", o: "hide", f: "fit" };
const HINTS = {
  select: "click a mask",
  brush: "paint the chosen mask; without one a new one",
  erase: "take pixels from the chosen mask; without one from all",
  polygon: "click corners, Enter closes: the chosen mask's new outline, or a new mask",
  box: "click two corners of one side, then the side across: it takes what no other mask has, with Shift all",
  split: "click one parcel, then the other; Enter cuts off the first alone; with Shift more than two",
  join: "choose a mask, then click what belongs to it",
  add: "click a parcel that has no mask",
};

class Editor {
  constructor(root, draft, told) {
    this.root = root;
    this.key = told.key;
    this.base = `/annotate/${told.key}`;
    this.classes = told.classes;
    this.mayChange = told.changes;
    this.labels = new Labels(draft);
    this.stage = new Stage(root.querySelector("canvas"), this.labels);
    this.list = new List(root, this);
    this.tool = "select";
    this.radius = 6;
    this.clicks = [];
    this.seen = new Set(); // masks that were chosen since the last round
    this.trail = [];
    this.held = null;
    this.busy = false;
    this.keeper = new Keeper(this, draft);
    this.wire();
    this.choose("select");
    this.list.update();
  }

  wire() {
    const { canvas } = this.stage;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event));
    canvas.addEventListener("dblclick", () => this.tool === "polygon" && this.enter());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("focus", () => this.showCursor(true));
    canvas.addEventListener("blur", () => this.showCursor(false));
    document.addEventListener("keydown", (event) => this.key_(event));
    for (const button of this.root.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.choose(button.dataset.tool));
    }
    for (const button of this.root.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => this.act(button.dataset.do));
    }
    this.root.querySelector("#opacity").addEventListener("input", (event) => {
      this.stage.opacity = +event.target.value / 100;
      this.stage.draw(true);
    });
    this.root.querySelector("#under").addEventListener("change", (event) => this.stage.show(event.target.value));
  }

  // Tools

  choose(tool) {
    this.tool = tool;
    this.forget();
    for (const button of this.root.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
    this.root.querySelector("#hint").textContent = HINTS[tool];
    this.stage.radius = tool === "brush" || tool === "erase" ? this.radius : 0;
    this.stage.draw();
  }

  forget() {
    this.clicks = [];
    this.stage.marks = [];
    this.stage.outline = [];
  }

  select(id) {
    this.stage.selected = id;
    if (id) {
      this.seen.add(id);
      this.trail.push(id);
    }
    this.stage.draw(true);
    this.list.mark();
  }

  get selected() {
    return this.labels.known.has(this.stage.selected) ? this.stage.selected : 0;
  }

  changed() {
    this.stage.draw(true);
    this.list.update();
    this.keeper.soon();
  }

  async click(x, y, more) {
    const under = this.labels.at(x, y);
    if (this.tool === "select") this.select(under);
    else if (!this.mayChange) say("this page only shows");
    else if (this.tool === "polygon" || this.tool === "box") this.corner(x, y, more);
    else if (this.tool === "split") await this.splitAt(x, y, under, more);
    else if (this.tool === "join") await this.joinWith(under);
    else if (this.tool === "add") await this.addAt(x, y);
    this.stage.draw();
  }

  corner(x, y, more) {
    this.clicks.push([x, y]);
    this.stage.outline = this.clicks;
    if (this.tool === "box" && this.clicks.length === 3) this.outlined(boxed(...this.clicks), more ? null : 0);
  }

  /** The chosen mask, or a new one, fills an outline. only: write over this id alone; null: over all. */
  outlined(points, only = null) {
    const id = this.selected || this.labels.freeId();
    this.labels.change(() => {
      if (this.selected) this.labels.clear(id);
      else this.labels.make(id);
      this.labels.fill(points, id, only);
    }, [id]);
    this.forget();
    this.select(id);
    this.changed();
  }

  async splitAt(x, y, under, more) {
    if (!this.clicks.length) {
      if (!under) return say("click on a mask");
      this.select(under);
    }
    this.clicks.push([x, y]);
    this.stage.marks = this.clicks;
    if (this.clicks.length >= 2 && !more) await this.split();
  }

  async split() {
    const id = this.selected;
    const pieces = await this.cut({ kind: "split", ids: [id], clicks: this.clicks });
    this.forget();
    if (!pieces || pieces.length < 2) return;
    const told = this.labels.known.get(id);
    this.labels.change(() => {
      this.labels.clear(id);
      pieces.forEach((piece, index) => {
        const own = index ? this.labels.freeId() : id;
        this.labels.make(own, { ...told, ...told_of(piece), origin: "person", confidence: 1 });
        this.labels.put(own, piece.counts);
      });
    });
    this.changed();
  }

  async joinWith(under) {
    if (!under || under === IGNORE) return;
    if (!this.selected || this.selected === under) return this.select(under);
    const id = this.selected;
    const pieces = await this.cut({ kind: "join", ids: [id, under], clicks: [] });
    if (!pieces?.length) return;
    this.labels.change(() => {
      this.labels.clear(under);
      this.labels.put(id, pieces[0].counts);
    }, [id]);
    this.changed();
  }

  async addAt(x, y) {
    const pieces = await this.cut({ kind: "add", ids: [], clicks: [[x, y]] });
    if (!pieces?.length) return say("nothing is to be seen there; draw it");
    const id = this.labels.freeId();
    this.labels.change(() => {
      this.labels.make(id, told_of(pieces[0]));
      this.labels.put(id, pieces[0].counts);
    });
    this.select(id);
    this.changed();
  }

  /** Ask the server, which has the network's view of the picture. */
  async cut(work) {
    if (this.busy) return null;
    this.busy = true;
    this.root.setAttribute("aria-busy", "true");
    try {
      const masks = this.labels.masks().map(({ id, counts }) => ({ id, counts }));
      return (await ask(`${this.base}/cut`, { method: "POST", body: { ...work, masks } })).pieces;
    } catch {
      return null;
    } finally {
      this.busy = false;
      this.root.removeAttribute("aria-busy");
    }
  }

  /** Have the network look at the picture before the first cut is asked for. */
  look() {
    ask(`${this.base}/cut`, { method: "POST", body: { kind: "look" } }).catch(() => {});
  }

  async enter() {
    if (this.tool === "polygon" && this.clicks.length > 2) {
      this.outlined(this.clicks);
    } else if (this.tool === "split" && this.clicks.length) {
      await this.split();
    } else if (this.tool === "brush" || this.tool === "erase") {
      this.stroke(this.stage.cursor, this.stage.cursor);
    } else {
      await this.click(...this.stage.cursor, false);
    }
  }

  stroke(from, to, begun = false) {
    if (!this.mayChange) return say("this page only shows");
    const erases = this.tool === "erase";
    const id = erases ? 0 : this.selected || this.labels.freeId();
    const only = erases && this.selected ? this.selected : null;
    const paint = () => {
      if (!erases && !this.labels.known.has(id)) this.labels.make(id);
      this.labels.line(from, to, this.radius, id, only);
    };
    if (begun) paint();
    else this.labels.change(paint, [erases ? this.selected : id]);
    if (!erases && !this.selected) this.select(id);
    this.changed();
  }

  // Pointer

  down(event) {
    this.stage.canvas.setPointerCapture(event.pointerId);
    const at = this.stage.pixel(event);
    this.stage.cursor = at;
    if (event.button === 1 || event.button === 2) this.held = { pan: [event.clientX, event.clientY] };
    else if (this.tool === "brush" || this.tool === "erase") {
      this.held = { at };
      this.stroke(at, at);
    } else if (this.labels.width > at[0] && this.labels.height > at[1] && at[0] >= 0 && at[1] >= 0) {
      this.click(...at, event.shiftKey);
    }
  }

  move(event) {
    this.stage.cursor = this.stage.pixel(event);
    if (this.held?.pan) {
      const dense = devicePixelRatio || 1;
      this.stage.pan((event.clientX - this.held.pan[0]) * dense, (event.clientY - this.held.pan[1]) * dense);
      this.held.pan = [event.clientX, event.clientY];
    } else if (this.held?.at) {
      this.stroke(this.held.at, this.stage.cursor, true);
      this.held.at = this.stage.cursor;
    }
    if (this.stage.radius || this.stage.outline.length) this.stage.draw();
  }

  up() {
    this.held = null;
  }

  wheel(event) {
    event.preventDefault();
    this.stage.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, this.stage.pixel(event));
  }

  showCursor(shown) {
    this.stage.showCursor = shown && this.stage.canvas.matches(":focus-visible");
    this.stage.draw();
  }

  // Keyboard

  key_(event) {
    const written = event.target.closest?.("input, select, textarea");
    if (written || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") this.act(event.shiftKey ? "redo" : "undo");
      else if (key === "y") this.act("redo");
      else return;
    } else if (TOOLS[key]) this.choose(TOOLS[key]);
    else if (ACTIONS[key]) this.act(ACTIONS[key]);
    else if (/^[1-9]$/.test(key)) this.name(this.classes[+key - 1]);
    else if (!this.other(event, key)) return;
    event.preventDefault();
  }

  /** Keys that are no letters; false: not ours. */
  other(event, key) {
    const onButton = event.target.closest?.("button, a, summary");
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (steps[key] && event.target === this.stage.canvas) this.step(steps[key], event.shiftKey ? 1 : 8);
    else if ((key === "Enter" || key === " ") && !onButton) {
      if (key === " ") this.space(event.shiftKey);
      else this.enter();
    } else if (key === "Escape") this.choose(this.tool);
    else if (key === "Delete" || key === "Backspace") this.act("remove");
    else if (key === "n") this.next(event.shiftKey ? -1 : 1);
    else if (key === "+" || key === "=") this.stage.zoom(1.25);
    else if (key === "-") this.stage.zoom(0.8);
    else if (key === "[" || key === "]") this.size(key === "]" ? 1.4 : 1 / 1.4);
    else return false;
    return true;
  }

  space(more) {
    if (this.tool === "brush" || this.tool === "erase") this.stroke(this.stage.cursor, this.stage.cursor);
    else this.click(...this.stage.cursor, more);
  }

  step([dx, dy], size) {
    const [x, y] = this.stage.cursor;
    const clamp = (value, most) => Math.min(most - 1, Math.max(0, value));
    this.stage.cursor = [clamp(x + dx * size, this.labels.width), clamp(y + dy * size, this.labels.height)];
    this.stage.draw();
    this.list.under(this.labels.at(...this.stage.cursor));
  }

  /** The most doubtful mask that was not looked at yet, or back to the one before. */
  next(way) {
    const { known } = this.labels; // what a person did is sure
    const ids = this.labels.ids().sort((one, other) => known.get(one).confidence - known.get(other).confidence);
    if (way < 0) this.trail.pop();
    const id = way < 0 ? this.trail.pop() : ids.find((one) => !this.seen.has(one));
    if (!known.has(id)) {
      if (way > 0) this.seen.clear();
      return say(way > 0 ? "every mask was looked at" : "there was none before");
    }
    this.stage.cursor = this.labels.middle(id);
    this.select(id);
  }

  size(factor) {
    this.radius = Math.min(80, Math.max(1, Math.round(this.radius * factor + Math.sign(factor - 1) * 0.4)));
    this.choose(this.tool);
    say(`brush of ${2 * this.radius + 1} pixels`);
  }

  // What is done at once

  act(what) {
    if (what === "undo" || what === "redo") {
      if (this.labels[what]()) this.changed();
      else say(`nothing to ${what}`);
    } else if (what === "fit") this.stage.fit();
    else if (what === "hide") {
      this.stage.overlayHidden = !this.stage.overlayHidden;
      this.stage.opacity = this.stage.overlayHidden ? 0 : +this.root.querySelector("#opacity").value / 100;
      this.stage.draw(true);
    } else if (what === "finish") this.finish();
    else if (!this.mayChange) say("this page only shows");
    else if (!this.selected) say("choose a mask first");
    else if (what === "remove") this.remove();
    else if (what === "ignore") this.ignore();
  }

  remove() {
    this.labels.change(() => this.labels.clear(this.selected));
    this.changed();
  }

  ignore() {
    const id = this.selected;
    this.labels.change(() => {
      if (!this.labels.known.has(IGNORE)) this.labels.make(IGNORE, { class_name: "ignore" });
      const { pixels } = this.labels;
      for (let at = 0; at < pixels.length; at++) if (pixels[at] === id) pixels[at] = IGNORE;
    });
    this.changed();
  }

  /** Tell something of the chosen mask. */
  tell(values) {
    const id = this.selected;
    if (!id || !this.mayChange) return;
    this.labels.change(() => this.labels.known.set(id, { ...this.labels.known.get(id), ...values }), [id]);
    this.changed();
  }

  name(class_name) {
    if (class_name !== undefined) this.tell({ class_name });
  }

  async finish() {
    if (!this.mayChange) return say("this page only shows");
    await this.keeper.finish();
  }

  state(text) {
    this.root.querySelector("#state").textContent = text;
    this.root.dataset.state = text;
  }
}

function told_of({ class_name, visible_fraction }) {
  return class_name ? { class_name, visible_fraction } : {};
}

/** Corners of a rectangle, of two along one side and a point on the side across. */
function boxed([x1, y1], [x2, y2], [x3, y3]) {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const part = ((x3 - x1) * -dy + (y3 - y1) * dx) / Math.max(1, dx * dx + dy * dy);
  const [ax, ay] = [Math.round(-dy * part), Math.round(dx * part)];
  return [[x1, y1], [x2, y2], [x2 + ax, y2 + ay], [x1 + ax, y1 + ay]];
}

const root = document.getElementById("annotate");
const told = JSON.parse(document.getElementById("told").textContent);
const editor = new Editor(root, await draftOf(`/annotate/${told.key}/draft`), told);
await editor.stage.show(told.picture);
editor.state("ready");
if (told.changes) editor.look();
window.robinEditor = editor; // for scripts that measure
