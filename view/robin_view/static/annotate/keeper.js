// Keeps what was done: soon after each change, at once when the page goes away, and as labels when it is done.

import { ask } from "../page.js";

const SAVE_MS = 700;
const KEEPALIVE_BYTES = 60000; // browsers let no more outlive a page
const LANDS_MS = 3000; // what was sent when the page went away is waited for so long

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
    if (draft.unsaved) this.soon();
    delete draft.unsaved;
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

  /** The page goes away: what is pending is sent all the same, and stays here until the server is seen to have it. */
  flush() {
    if (!(this.timer || this.saving) || !this.editor.mayChange || this.lost) return;
    const body = this.body();
    const sent = JSON.stringify(body);
    const sends = !this.saving && sent.length < KEEPALIVE_BYTES;
    const version = this.draft.version + (this.saving || sends ? 1 : 0);
    const left = { version, holds: sends || !this.timer, masks: body.masks };
    localStorage.setItem(this.address, JSON.stringify(left));
    if (sends) this.send(sent);
  }

  send(body) {
    clearTimeout(this.timer);
    this.timer = null;
    const token = document.querySelector('meta[name="page-token"]').content;
    const headers = { "content-type": "application/json", "x-robin-token": token };
    this.saving = fetch(this.address, { method: "PUT", headers, body, keepalive: true })
      .then((answer) => answer.json())
      .then(({ version }) => (this.draft.version = version ?? this.draft.version))
      .catch(() => this.editor.state("not saved"))
      .finally(() => (this.saving = null));
  }

  async finish() {
    await this.save();
    if (this.lost) return;
    const body = { version: this.draft.version };
    const { next } = await ask(`${this.editor.base}/done`, { method: "POST", body });
    location.assign(next);
  }
}

/** The draft as the server has it once what the page sent last has landed, or with what it left here unsaved. */
export async function draftOf(address) {
  const left = JSON.parse(localStorage.getItem(address) ?? "null");
  const until = Date.now() + (left ? LANDS_MS : 0);
  let draft = await ask(address);
  while (left && draft.version < left.version && Date.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    draft = await ask(address);
  }
  localStorage.removeItem(address);
  if (!left || draft.version > left.version || (draft.version === left.version && left.holds)) return draft;
  return { ...draft, masks: left.masks, unsaved: true };
}
