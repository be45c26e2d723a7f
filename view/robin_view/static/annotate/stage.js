// The picture with its masks on a canvas: zoom and pan, what is under the pointer, cursor and marks.

import { IGNORE } from "./labels.js";

const GOLDEN = 0.618033988749895;
const DOT = 5;

/** Red, green, blue of a mask; as robin_perception.segmentation.overlay has them. */
export function colourOf(id) {
  if (id === IGNORE) return [128, 128, 128];
  const hue = (id * GOLDEN) % 1;
  const part = Math.floor(hue * 6);
  const rest = hue * 6 - part;
  const low = 0.25;
  const falling = 1 - 0.75 * rest;
  const rising = 1 - 0.75 * (1 - rest);
  const all = [[1, rising, low], [falling, 1, low], [low, 1, rising], [low, falling, 1], [rising, low, 1], [1, low, falling]];
  return all[part % 6].map((value) => Math.floor(value * 255));
}

export class Stage {
  /** canvas: of the page. labels: ``Labels``. */
  constructor(canvas, labels) {
    this.canvas = canvas;
    this.labels = labels;
    this.picture = new Image();
    this.opacity = 0.4;
    this.selected = 0;
    this.cursor = [labels.width >> 1, labels.height >> 1];
    this.showCursor = false;
    this.marks = [];
    this.outline = [];
    this.radius = 0;
    this.overlay = new OffscreenCanvas(labels.width, labels.height);
    this.scale = 1;
    this.left = 0;
    this.top = 0;
    this.waiting = false;
    this.stale = true;
    new ResizeObserver(() => this.fit()).observe(canvas.parentElement);
  }

  async show(address) {
    this.picture.src = address;
    await this.picture.decode();
    this.fit();
  }

  /** All of the picture in view. */
  fit() {
    const { width } = this.canvas.parentElement.getBoundingClientRect();
    const height = Math.min((width * this.labels.height) / this.labels.width, Math.max(260, innerHeight * 0.65));
    const dense = devicePixelRatio || 1;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = Math.round(width * dense);
    this.canvas.height = Math.round(height * dense);
    this.scale = Math.min(this.canvas.width / this.labels.width, this.canvas.height / this.labels.height);
    this.left = (this.canvas.width - this.scale * this.labels.width) / 2;
    this.top = (this.canvas.height - this.scale * this.labels.height) / 2;
    this.draw();
  }

  zoom(factor, [x, y] = this.cursor) {
    const scale = Math.min(40, Math.max(0.2, this.scale * factor));
    this.left += (x + 0.5) * (this.scale - scale);
    this.top += (y + 0.5) * (this.scale - scale);
    this.scale = scale;
    this.draw();
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.draw();
  }

  /** Pixel of the picture under a pointer. */
  pixel(event) {
    const box = this.canvas.getBoundingClientRect();
    const dense = this.canvas.width / box.width;
    const x = ((event.clientX - box.left) * dense - this.left) / this.scale;
    const y = ((event.clientY - box.top) * dense - this.top) / this.scale;
    return [Math.floor(x), Math.floor(y)];
  }

  /** Draw once with the next frame. masks: they have changed. */
  draw(masks = false) {
    this.stale = this.stale || masks;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.stale) this.tint();
      this.paint();
    });
  }

  tint() {
    this.stale = false;
    const { width, height, pixels } = this.labels;
    const image = new ImageData(width, height);
    const colours = new Map();
    const last = width * (height - 1);
    for (let at = 0; at < pixels.length; at++) {
      const id = pixels[at];
      if (!id) continue;
      if (!colours.has(id)) colours.set(id, colourOf(id));
      const parted = (at % width && pixels[at - 1] !== id) || (at >= width && pixels[at - width] !== id);
      const edge = parted || (at % width < width - 1 && !pixels[at + 1]) || (at < last && !pixels[at + width]);
      const [red, green, blue] = edge ? [255, 255, 255] : colours.get(id);
      const strong = id === this.selected ? Math.min(1, this.opacity + 0.25) : this.opacity;
      image.data.set([red, green, blue, Math.round(255 * (edge ? Math.min(1, this.opacity * 2.5) : strong))], 4 * at);
    }
    this.overlay.getContext("2d").putImageData(image, 0, 0);
  }

  paint() {
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.imageSmoothingEnabled = this.scale < 2;
    pen.setTransform(this.scale, 0, 0, this.scale, this.left, this.top);
    if (this.picture.naturalWidth) pen.drawImage(this.picture, 0, 0, this.labels.width, this.labels.height);
    pen.drawImage(this.overlay, 0, 0);
    pen.lineWidth = 2 / this.scale;
    this.paintOutline(pen);
    for (const [x, y] of this.marks) this.circle(pen, x, y, DOT / this.scale, "#fff", "#1b2530");
    if (this.radius) this.circle(pen, ...this.cursor, this.radius, null, "#fff");
    if (this.showCursor) this.cross(pen);
  }

  paintOutline(pen) {
    if (!this.outline.length) return;
    pen.beginPath();
    for (const [x, y] of [...this.outline, this.cursor]) pen.lineTo(x + 0.5, y + 0.5);
    pen.strokeStyle = "#fff";
    pen.stroke();
    for (const [x, y] of this.outline) this.circle(pen, x, y, 3 / this.scale, "#fff", "#1b2530");
  }

  circle(pen, x, y, radius, fill, line) {
    pen.beginPath();
    pen.arc(x + 0.5, y + 0.5, radius, 0, 2 * Math.PI);
    if (fill) {
      pen.fillStyle = fill;
      pen.fill();
    }
    pen.strokeStyle = line;
    pen.stroke();
  }

  cross(pen) {
    const [x, y] = this.cursor.map((value) => value + 0.5);
    const arm = 14 / this.scale;
    for (const [colour, width] of [["#1b2530", 4], ["#fff", 2]]) {
      pen.beginPath();
      pen.moveTo(x - arm, y);
      pen.lineTo(x + arm, y);
      pen.moveTo(x, y - arm);
      pen.lineTo(x, y + arm);
      pen.strokeStyle = colour;
      pen.lineWidth = width / this.scale;
      pen.stroke();
    }
  }
}
