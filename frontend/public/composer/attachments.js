// The files of the next message: chips in the composer. A file is uploaded as soon as it is chosen.

import { element } from "../element.js";

const MAX_FILES = 10; // the server's limit for one message

export class Attachments {
  #chips = []; // { attachment, element, request }: the attachment is null until it is uploaded

  /** `chatkit()` returns the client. `report(error, show)` handles an error. `changed()` is called after changes. */
  constructor({ list, input, problem, chatkit, report, changed }) {
    Object.assign(this, { list, input, problem, chatkit, report, changed });
    input.addEventListener("change", () => {
      this.add(input.files);
      input.value = ""; // so that the user can choose the same file again
    });
  }

  get uploading() {
    return this.#chips.some(({ attachment }) => !attachment);
  }

  get uploaded() {
    return this.#chips.map(({ attachment }) => attachment).filter(Boolean);
  }

  /** Removes the messages about files that were refused before. */
  forgetProblem() {
    this.problem.textContent = "";
  }

  #addProblem(sentence) {
    this.problem.textContent = [this.problem.textContent, sentence].filter(Boolean).join("\n");
  }

  add(files) {
    this.forgetProblem();
    for (const file of files) {
      if (this.#chips.length >= MAX_FILES) { // after restore() there may be more than MAX_FILES
        this.#addProblem(`A message carries up to ${MAX_FILES} files.`);
        break;
      }
      this.#upload(file);
    }
  }

  /** Removes the uploaded attachments from the composer and returns them. */
  take() {
    this.forgetProblem();
    const taken = this.uploaded;
    this.#drop(this.#chips.filter(({ attachment }) => attachment));
    return taken;
  }

  /** Shows attachments again after the server has refused their message. */
  restore(attachments) {
    for (const attachment of attachments) this.#show({ attachment, request: null }, attachment.name);
    this.changed();
  }

  /** Removes everything. The server deletes uploads that were never sent. */
  clear() {
    for (const { request } of this.#chips) request?.abort();
    this.#drop(this.#chips);
    this.forgetProblem();
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
      const tell = (message) => this.#addProblem(`${file.name}: ${message}`);
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
    this.forgetProblem();
    chip.request?.abort();
    this.#drop([chip]);
    this.input.focus();
    this.changed();
    // Ignore errors: the server deletes uploads that were never sent.
    if (chip.attachment) this.chatkit().deleteAttachment(chip.attachment.id).catch(() => {});
  }

  #drop(chips) {
    for (const chip of chips) chip.element.remove();
    this.#chips = this.#chips.filter((chip) => !chips.includes(chip));
  }
}
