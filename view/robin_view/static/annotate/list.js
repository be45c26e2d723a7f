// The masks beside the picture: which there are, what is said of the chosen one.

import { IGNORE } from "./labels.js";
import { colourOf } from "./stage.js";

const ORIGINS = { pick: "from a pick", earlier: "from a later pick", pseudo: "proposed", person: "by a person" };

export class List {
  constructor(root, editor) {
    this.editor = editor;
    this.rows = root.querySelector("#masks");
    this.count = root.querySelector("#count");
    this.choice = root.querySelector("#class");
    this.visible = root.querySelector("#visible");
    this.told = root.querySelector("#chosen");
    this.choice.addEventListener("change", () => editor.name(this.choice.value));
    this.visible.addEventListener("change", () => {
      const share = this.visible.value === "" ? null : Math.min(100, Math.max(0, +this.visible.value)) / 100;
      editor.tell({ visible_fraction: share });
    });
  }

  update() {
    const { labels } = this.editor;
    this.rows.replaceChildren(...labels.ids().map((id) => this.row(id, labels.known.get(id))));
    const count = labels.ids().length;
    this.count.textContent = count === 1 ? "1 mask" : `${count} masks`;
    this.mark();
  }

  row(id, told) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.id = id;
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = `rgb(${colourOf(id).join(" ")})`;
    button.append(swatch, `${id} ${(told.class_name || "parcel").replaceAll("_", " ")}`);
    button.addEventListener("click", () => this.editor.select(id));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  mark() {
    const { selected, labels } = this.editor;
    for (const button of this.rows.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(+button.dataset.id === selected));
    }
    const told = labels.known.get(selected);
    const usable = Boolean(told) && selected !== IGNORE && this.editor.mayChange;
    this.choice.disabled = this.visible.disabled = !usable;
    this.choice.value = told?.class_name ?? "";
    this.visible.value = told?.visible_fraction == null ? "" : Math.round(100 * told.visible_fraction);
    this.told.textContent = told ? this.words(selected, told) : "no mask chosen";
  }

  words(id, told) {
    if (id === IGNORE) return "pixels that say nothing";
    const sure = told.origin === "person" ? "" : `, ${Math.round(100 * told.confidence)} %`;
    return `mask ${id}, ${ORIGINS[told.origin]}${sure}`;
  }

  /** Said while the cursor is moved by keys. */
  under(id) {
    this.told.textContent = id ? `the cursor is on mask ${id}` : "the cursor is on no mask";
  }
}
