// The labels of one picture as they are being corrected: pixels, what is known of each mask, and a way back.

import { codedMasks, labelsOf } from "../masks.js";

export const IGNORE = 65535;
const MOST_BYTES = 64e6; // of all that can be undone

export class Labels {
  /** draft: as the server keeps it. */
  constructor(draft) {
    this.width = draft.width;
    this.height = draft.height;
    const counts = Object.fromEntries(draft.masks.map((mask) => [mask.id, mask.counts]));
    this.pixels = labelsOf({ height: draft.height, width: draft.width, counts });
    this.known = new Map(draft.masks.map(({ id, counts: _, ...told }) => [id, told]));
    this.before = [];
    this.after = [];
  }

  at(x, y) {
    return x < 0 || y < 0 || x >= this.width || y >= this.height ? 0 : this.pixels[y * this.width + x];
  }

  /** Ids of parcels, without what is ignored. */
  ids() {
    return [...this.known.keys()].filter((id) => id !== IGNORE).sort((a, b) => a - b);
  }

  freeId() {
    let id = 1;
    while (this.known.has(id)) id++;
    return id;
  }

  /** Change something that can be undone. touched: ids that are a person's from now on. */
  change(work, touched = []) {
    this.before.push(this.copy());
    const most = Math.max(8, Math.floor(MOST_BYTES / this.pixels.byteLength));
    if (this.before.length > most) this.before.shift();
    this.after = [];
    work();
    for (const id of touched) this.touch(id);
    this.drop();
  }

  touch(id) {
    if (this.known.has(id)) this.known.set(id, { ...this.known.get(id), origin: "person", confidence: 1 });
  }

  /** Masks without a pixel are gone. */
  drop() {
    const seen = new Set(this.pixels);
    for (const id of [...this.known.keys()]) if (!seen.has(id)) this.known.delete(id);
  }

  copy() {
    return { pixels: this.pixels.slice(), known: new Map(this.known) };
  }

  swap(from, to) {
    if (!from.length) return false;
    to.push(this.copy());
    Object.assign(this, from.pop());
    return true;
  }

  undo() {
    return this.swap(this.before, this.after);
  }

  redo() {
    return this.swap(this.after, this.before);
  }

  make(id, told = {}) {
    const fresh = { class_name: "", visible_fraction: null, origin: "person", confidence: 1 };
    this.known.set(id, { ...fresh, ...told });
  }

  clear(id) {
    for (let at = 0; at < this.pixels.length; at++) if (this.pixels[at] === id) this.pixels[at] = 0;
  }

  /** Write a mask of the server: counts of run lengths. */
  put(id, counts) {
    const mask = labelsOf({ height: this.height, width: this.width, counts: { 1: counts } });
    for (let at = 0; at < mask.length; at++) if (mask[at]) this.pixels[at] = id;
  }

  /** A dot of a brush. only: write over this id alone; null: over all. */
  dot(x, y, radius, id, only = null) {
    for (let row = Math.max(0, y - radius); row <= Math.min(this.height - 1, y + radius); row++) {
      const half = Math.floor(Math.sqrt(radius * radius - (row - y) * (row - y)));
      for (let col = Math.max(0, x - half); col <= Math.min(this.width - 1, x + half); col++) {
        const at = row * this.width + col;
        if (only === null || this.pixels[at] === only) this.pixels[at] = id;
      }
    }
  }

  line(from, to, radius, id, only = null) {
    const steps = Math.max(1, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
    for (let step = 0; step <= steps; step++) {
      const part = step / steps;
      const x = Math.round(from[0] + part * (to[0] - from[0]));
      this.dot(x, Math.round(from[1] + part * (to[1] - from[1])), radius, id, only);
    }
  }

  /** Fill an outline: pixels whose middle lies inside, by the even-odd rule. only: as of a dot. */
  fill(points, id, only = null) {
    const rows = points.map((point) => point[1]);
    const last = Math.min(this.height - 1, Math.max(...rows));
    for (let y = Math.max(0, Math.min(...rows)); y <= last; y++) {
      const crossed = [];
      points.forEach(([x1, y1], index) => {
        const [x2, y2] = points[(index + 1) % points.length];
        if (y1 <= y !== y2 <= y) crossed.push(x1 + ((y - y1) * (x2 - x1)) / (y2 - y1));
      });
      crossed.sort((a, b) => a - b);
      for (let pair = 0; pair + 1 < crossed.length; pair += 2) {
        const end = Math.min(this.width - 1, Math.floor(crossed[pair + 1]));
        for (let x = Math.max(0, Math.ceil(crossed[pair])); x <= end; x++) {
          const at = y * this.width + x;
          if (only === null || this.pixels[at] === only) this.pixels[at] = id;
        }
      }
    }
  }

  /** A pixel well inside a mask, to put a cursor or a number on: the middle of its longest row. */
  middle(id) {
    let best = [0, 0, 0];
    for (let y = 0; y < this.height; y++) {
      let run = 0;
      for (let x = 0; x < this.width; x++) {
        run = this.pixels[y * this.width + x] === id ? run + 1 : 0;
        if (run > best[0]) best = [run, x - (run >> 1), y];
      }
    }
    return [best[1], best[2]];
  }

  area(id) {
    let count = 0;
    for (const value of this.pixels) if (value === id) count++;
    return count;
  }

  /** As the server takes them. */
  masks() {
    const { counts } = codedMasks(this.pixels, this.height, this.width);
    return Object.entries(counts).map(([id, text]) => ({ id: +id, ...this.known.get(+id), counts: text }));
  }
}
