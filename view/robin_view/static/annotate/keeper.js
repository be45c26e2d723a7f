// Keeps what was done: soon after each change, at once when the page goes away, and as labels when it is done.

import { ask } from "../page.js";

const SAVE_MS = 700;
const KEEPALIVE_BYTES = 60000; // browsers let no more outlive a page

export class Keeper {
  /** draft: as the server keeps it; the version is what a save must begin with. */
  constructor(editor, draft) {
    this.editor = editor;
    this.draft = draft;
    this.timer = null;
    this.saving = null;
    this.lost = false;
    document.addEventListener("visibilitychange", () => document.hidden && this.flush());
    addEventListener("pagehide", () => this.flush());
  }

  soon() {
    this.editor.state("changed");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), SAVE_MS);
  }

  body() {
    return { ...this.draft, masks: this.editor.labels.masks(), done: false };
  }

  get address() {
    return `${this.editor.base}/draft`;
  }

  /** One at a time; a change meanwhile is saved after it. */
  async save() {
    clearTimeout(this.timer);
    this.timer = null;
    if (this.saving) await this.saving;
    if (!this.editor.mayChange || this.lost) return;
    this.saving = ask(this.address, { method: "PUT", body: this.body() })
      .then(({ version }) => {
        this.draft.version = version;
        if (!this.timer) this.editor.state("saved");
      })
      .catch((failure) => {
        this.lost = String(failure).includes("ANNOTATION_STALE");
        this.editor.state(this.lost ? "changed elsewhere: load the page again" : "not saved");
      });
    await this.saving;
    this.saving = null;
  }

  /** The page goes away: what is pending is sent all the same. */
  flush() {
    if (!this.timer || !this.editor.mayChange) return;
    clearTimeout(this.timer);
    this.timer = null;
    const body = JSON.stringify(this.body());
    const token = document.querySelector('meta[name="page-token"]').content;
    const headers = { "content-type": "application/json", "x-robin-token": token };
    const keepalive = body.length < KEEPALIVE_BYTES;
    this.saving = fetch(this.address, { method: "PUT", headers, body, keepalive })
      .then((answer) => answer.json())
      .then(({ version }) => (this.draft.version = version ?? this.draft.version))
      .catch(() => this.editor.state("not saved"));
  }

  async finish() {
    await this.save();
    if (this.lost) return;
    const body = { version: this.draft.version };
    const { next } = await ask(`${this.editor.base}/done`, { method: "POST", body });
    location.assign(next);
  }
}
