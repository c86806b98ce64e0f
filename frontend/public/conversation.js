// One conversation on the page: what ChatKit's events do to it. Text from the server only ever becomes a text node.
//
// A screen reader reads what is added to `log`, and nothing else. So an answer grows in `growing`, which is silent,
// and moves into the log once, when it is whole. History is read by nobody: it is put into a log that is not on
// the page yet, and a new log is taken in silently, with all it holds.

import { element } from "./element.js";
import { updateWorkflow, workflowElement } from "./workflow.js";

const SPEAKERS = { user_message: "You", assistant_message: "Assistant" };

export class Conversation {
  /**
   * `getAttachment(id)` promises an attachment with new addresses; `report(error, show)` says what went wrong;
   * `answerAgain(conversation)` asks for another answer to what was said last.
   */
  constructor({ threadId = null, getAttachment, report, answerAgain }) {
    this.threadId = threadId;
    this.getAttachment = getAttachment;
    this.report = report;
    this.answerAgain = answerAgain;
    this.title = "";
    this.loading = false;
    this.request = null; // the AbortController of the answer that is streaming
    this.mayStop = true;
    this.cursor = undefined; // where the page before the first message starts
    this.pending = null; // { text, attachments, message }: sent, not yet taken by the server
    this.messages = new Map(); // item id -> its element

    this.earlierButton = element("button", { type: "button", class: "earlier", hidden: "" }, "Earlier messages");
    this.log = newLog();
    this.growing = element("div", { class: "growing" });
    this.progress = element("p", { class: "progress", role: "status" });
    this.notes = element("div", { "aria-live": "polite" });
    this.problem = element("p", { class: "alert", role: "alert" });
    this.againButton = element("button", { type: "button", class: "again", hidden: "" }, "Try again");
    this.againButton.addEventListener("click", () => this.#again());
    this.element = element("div", { class: "conversation" });
    if (!threadId) this.element.append(element("p", { class: "greeting" }, "How can we help?"));
    this.element.append(this.earlierButton, this.log, this.growing, this.progress, this.notes);
    this.element.append(this.problem, this.againButton);
  }

  /** The id of the reader's last message. */
  get lastSaid() {
    return [...this.log.querySelectorAll(".user_message")].at(-1)?.dataset.id;
  }

  /** Puts older items, oldest first, before the others. */
  prepend(items) {
    const log = newLog();
    log.append(...items.map((item) => this.#messageOf(item)).filter(Boolean), ...this.log.childNodes);
    this.log.replaceWith(log);
    this.log = log;
  }

  /** `said` is what the reader says, `{ text, attachments }`; null: they want another answer to what they said last. */
  begin(said) {
    this.request = new AbortController();
    this.mayStop = true;
    this.notes.replaceChildren();
    this.alert("");
    this.log.setAttribute("aria-busy", "true");
    if (said) this.#show(said);
    else this.#forgetAnswer();
    this.progress.textContent = "Thinking…";
    return this.request.signal;
  }

  #show({ text, attachments }) {
    this.element.querySelector(".greeting")?.remove();
    const message = messageElement("user_message", text ? [text] : []);
    message.append(...this.#attached(attachments));
    message.classList.add("pending");
    this.pending = { text, attachments, message };
    this.growing.append(message);
  }

  #forgetAnswer() {
    const said = this.messages.get(this.lastSaid);
    while (said.nextSibling) said.nextSibling.remove();
  }

  apply(event) {
    switch (event.type) {
      case "thread.item.added":
        return this.#grow(event.item);
      case "thread.item.done":
      case "thread.item.replaced":
        return this.#settle(event.item);
      case "thread.item.removed":
        return this.#remove(event.item_id);
      case "thread.item.updated":
        return this.#update(this.messages.get(event.item_id), event.update);
      case "stream_options":
        this.mayStop = event.stream_options.allow_cancel;
        return;
      case "progress_update":
        this.progress.textContent = event.text;
        return;
      case "notice":
        return this.note([event.title, event.message].filter(Boolean).join(": "), event.level);
      case "error":
        return this.alert(event.message || "Something went wrong while answering.", {
          again: event.allow_retry && this.lastSaid ? () => this.answerAgain(this) : null,
        });
    }
  }

  /** The stream is over, whole or not. Returns what the server did not take, `{ text, attachments }`, or null. */
  end() {
    const unsent = this.pending;
    this.pending?.message.remove();
    // As the server does: it keeps what was said until then, and no thoughts that have not come to an end.
    this.log.append(...this.growing.querySelectorAll(".message:has(.text:not(:empty))"));
    this.growing.replaceChildren();
    this.progress.textContent = "";
    this.log.setAttribute("aria-busy", "false");
    this.request = this.pending = null;
    return unsent;
  }

  note(text, level = "info") {
    this.notes.append(element("p", { class: `note ${level}` }, text));
  }

  /** `again`: what to do when the reader wants to try again, if that can help. */
  alert(text, { again = null } = {}) {
    this.problem.textContent = text;
    this.again = again;
    this.againButton.hidden = !again;
  }

  #again() {
    const again = this.again;
    this.element.parentElement.focus({ preventScroll: true }); // the button that has it goes away
    this.alert("");
    again();
  }

  #grow(item) {
    const message = this.#messageOf(item);
    if (message) this.growing.append(message);
    if (item.type === "workflow") this.progress.textContent = "Thinking…"; // also when it has spoken before
  }

  #settle(item) {
    const before = this.messages.get(item.id);
    const message = this.#messageOf(item);
    if (before?.open) message.open = true; // the reader has opened a workflow
    if (item.type === "user_message" && this.pending) {
      this.pending.message.remove();
      this.pending = null;
    }
    if (message && before?.parentNode === this.log) return before.replaceWith(message);
    before?.remove();
    if (message) this.log.append(message);
  }

  #remove(itemId) {
    this.messages.get(itemId)?.remove();
    this.messages.delete(itemId);
    // What was read so far is gone: say that an answer is still to come.
    if (this.request && !this.growing.querySelector(".text:not(:empty)")) this.progress.textContent = "Thinking…";
  }

  #update(message, update) {
    if (!message) return; // an item of a kind that is not shown
    if (message.matches(".workflow")) return updateWorkflow(message, update);
    switch (update.type) {
      case "assistant_message.content_part.added":
      case "assistant_message.content_part.done":
        partAt(message, update.content_index).data = update.content.text;
        break;
      case "assistant_message.content_part.text_delta":
        partAt(message, update.content_index).appendData(update.delta);
        break;
    }
    if (this.progress.textContent && message.querySelector(".text:not(:empty)")) this.progress.textContent = "";
  }

  // Other kinds of items (widgets, tasks) would get their elements here.
  #messageOf(item) {
    let message;
    if (item.type === "workflow") message = workflowElement(item.workflow);
    else if (Object.hasOwn(SPEAKERS, item.type)) message = this.#said(item);
    else return null;
    message.dataset.id = item.id;
    this.messages.set(item.id, message);
    return message;
  }

  #said(item) {
    const message = messageElement(item.type, item.content.map((part) => part.text));
    message.append(...this.#attached(item.attachments ?? []));
    return message;
  }

  #attached(attachments) {
    if (!attachments.length) return [];
    const list = element("ul", { class: "attachments" });
    for (const attachment of attachments) {
      const entry = element("li");
      const open = element("button", { type: "button", class: "attachment" });
      if (attachment.type === "image") open.append(this.#thumbnail(attachment));
      else open.textContent = attachment.name;
      open.setAttribute("aria-label", `${attachment.type === "image" ? "Open" : "Download"} ${attachment.name}`);
      open.addEventListener("click", () => this.#open(attachment));
      entry.append(open);
      list.append(entry);
    }
    return [list];
  }

  #thumbnail({ id, name, preview_url: address }) {
    const image = element("img", { src: address, alt: name, loading: "lazy" });
    const renew = async () => {
      image.src = await this.getAttachment(id).then((fresh) => fresh.preview_url, () => "");
    };
    image.addEventListener("error", renew, { once: true }); // its address is only good for minutes
    return image;
  }

  async #open({ id, type }) {
    // A picture's window is opened at once, while the click counts as the reader's.
    const view = type === "image" ? window.open("", "_blank") : window;
    try {
      const { content_url: address } = await this.getAttachment(id);
      (view ?? window).location.assign(address); // a file is only saved: the page stays
    } catch (error) {
      if (view !== window) view?.close();
      this.report(error, (text) => this.alert(error.status === 404 ? "This file has been deleted." : text));
    }
  }
}

function newLog() {
  return element("div", { class: "log", role: "log", "aria-live": "polite", "aria-label": "Messages", "aria-busy": "false" });
}

function messageElement(type, texts) {
  const message = element("article", { class: `message ${type}` });
  message.append(element("p", { class: "speaker" }, SPEAKERS[type]));
  texts.forEach((text, index) => (partAt(message, index).data = text));
  return message;
}

// The text node of one content part. Parts may be announced out of order.
function partAt(message, index) {
  const parts = message.getElementsByClassName("text");
  while (parts.length <= index) {
    const part = element("p", { class: "text" });
    part.append(document.createTextNode(""));
    message.append(part);
  }
  return parts[index].firstChild;
}
