// Files on their way to a message: chips in the composer, uploaded as soon as they are chosen.

import { element } from "./element.js";

const MAX_FILES = 10; // as many as the server takes with one message

export class Attachments {
  #chips = []; // { attachment, element, request }: the attachment is null until it is uploaded

  /** `chatkit()` gives the client; `report(error, show)` decides what an error means; `changed()` is told. */
  constructor({ list, input, problem, chatkit, report, changed }) {
    Object.assign(this, { list, input, problem, chatkit, report, changed });
    input.addEventListener("change", () => {
      this.add(input.files);
      input.value = ""; // so that the same file can be chosen again
    });
  }

  get uploading() {
    return this.#chips.some(({ attachment }) => !attachment);
  }

  get uploaded() {
    return this.#chips.map(({ attachment }) => attachment).filter(Boolean);
  }

  add(files) {
    this.problem.textContent = "";
    for (const file of files) {
      if (this.#chips.length >= MAX_FILES) { // more, where some were put back
        this.problem.textContent = `A message carries up to ${MAX_FILES} files.`;
        break;
      }
      this.#upload(file);
    }
  }

  /** What is uploaded goes with the message and leaves the composer. */
  take() {
    const taken = this.uploaded;
    this.#drop(this.#chips.filter(({ attachment }) => attachment));
    return taken;
  }

  /** Puts back what the server did not take. */
  restore(attachments) {
    for (const attachment of attachments) this.#show({ attachment, request: null }, attachment.name);
    this.changed();
  }

  /** Without a trace on the page. What was uploaded is swept by the server, as it was never sent. */
  clear() {
    for (const { request } of this.#chips) request?.abort();
    this.#drop(this.#chips);
    this.problem.textContent = "";
  }

  async #upload(file) {
    const chip = { attachment: null, request: new AbortController() };
    this.#show(chip, file.name);
    chip.element.setAttribute("aria-busy", "true");
    chip.state.textContent = "Uploading…";
    this.changed();
    try {
      chip.attachment = await this.chatkit().uploadAttachment(file, chip.request.signal);
      chip.element.setAttribute("aria-busy", "false");
      chip.state.textContent = "";
    } catch (error) {
      this.#drop([chip]);
      const tell = (message) => (this.problem.textContent = `${file.name}: ${message}`);
      if (!chip.request.signal.aborted) this.report(error, tell);
    }
    this.changed();
  }

  #show(chip, name) {
    chip.element = element("li", { class: "chip" });
    chip.state = element("span", { class: "hint", role: "status" });
    const remove = element("button", { type: "button", class: "link", "aria-label": `Remove ${name}` }, "Remove");
    remove.addEventListener("click", () => this.#remove(chip));
    chip.element.append(element("span", { class: "name" }, name), chip.state, remove);
    this.list.append(chip.element);
    this.#chips.push(chip);
  }

  #remove(chip) {
    chip.request?.abort();
    this.#drop([chip]);
    this.input.focus();
    this.changed();
    // Should this fail, nobody needs to know: what is never sent is swept.
    if (chip.attachment) this.chatkit().deleteAttachment(chip.attachment.id).catch(() => {});
  }

  #drop(chips) {
    for (const chip of chips) chip.element.remove();
    this.#chips = this.#chips.filter((chip) => !chips.includes(chip));
  }
}
