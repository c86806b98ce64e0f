// One conversation on the page. It applies ChatKit's events. Text from the server only becomes text nodes.
//
// A screen reader announces only elements that are added to `log`. So a streaming answer is in `growing`, which is
// silent. It moves to the log when it is complete. Older messages must not be announced. They are added to a new
// log that is not on the page yet, because screen readers ignore the content of a new log.

import { element } from "./element.js";
import { updateWorkflow, workflowElement } from "./workflow.js";

const SPEAKERS = { user_message: "You", assistant_message: "Assistant" };

export class Conversation {
  /**
   * `getAttachment(id)`: a promise of the attachment with new URLs. `report(error, show)` handles an error.
   * `answerAgain(conversation)` asks for another answer to the last message.
   */
  constructor({ threadId = null, getAttachment, report, answerAgain }) {
    this.threadId = threadId;
    this.getAttachment = getAttachment;
    this.report = report;
    this.answerAgain = answerAgain;
    this.title = "";
    this.loading = false;
    this.request = null; // the AbortController of the running stream
    this.mayStop = true;
    this.cursor = undefined; // the cursor of the page before the first message
    this.pending = null; // { text, attachments, message }: sent, but not accepted yet
    this.messages = new Map(); // item id -> element

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

  /** The id of the user's last message. */
  get lastMessageId() {
    return [...this.log.querySelectorAll(".user_message")].at(-1)?.dataset.id;
  }

  /** Adds older items, oldest first, before the others. */
  prepend(items) {
    const log = newLog();
    log.append(...items.map((item) => this.#messageOf(item)).filter(Boolean), ...this.log.childNodes);
    this.log.replaceWith(log);
    this.log = log;
  }

  /** `draft`: the message, `{ text, attachments }`, or null for another answer to the last message. */
  begin(draft) {
    this.request = new AbortController();
    this.mayStop = true;
    this.notes.replaceChildren();
    this.alert("");
    this.log.setAttribute("aria-busy", "true");
    if (draft) this.#show(draft);
    else this.#removeAnswer();
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

  #removeAnswer() {
    const question = this.messages.get(this.lastMessageId);
    while (question.nextSibling) question.nextSibling.remove();
  }

  apply(event) {
    switch (event.type) {
      case "thread.item.added":
        return this.#start(event.item);
      case "thread.item.done":
      case "thread.item.replaced":
        return this.#finish(event.item);
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
          again: event.allow_retry && this.lastMessageId ? () => this.answerAgain(this) : null,
        });
    }
  }

  /** Ends the stream. Returns the message if the server did not accept it, `{ text, attachments }`, or null. */
  end() {
    const unsent = this.pending;
    this.pending?.message.remove();
    // Like the server, keep the partial answer, but no unfinished thoughts.
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

  /** `again`: the action of the button "Try again"; null hides the button. */
  alert(text, { again = null } = {}) {
    this.problem.textContent = text;
    this.again = again;
    this.againButton.hidden = !again;
  }

  #again() {
    const again = this.again;
    this.element.parentElement.focus({ preventScroll: true }); // the focused button disappears
    this.alert("");
    again();
  }

  #start(item) {
    const message = this.#messageOf(item);
    if (message) this.growing.append(message);
    if (item.type === "workflow") this.progress.textContent = "Thinking…"; // also after a part of the answer
  }

  #finish(item) {
    const before = this.messages.get(item.id);
    const message = this.#messageOf(item);
    if (before?.open) message.open = true; // the user has opened the workflow
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
    // The visible answer was removed, and another one follows.
    if (this.request && !this.growing.querySelector(".text:not(:empty)")) this.progress.textContent = "Thinking…";
  }

  #update(message, update) {
    if (!message) return; // items of this type are not shown
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

  // Create the elements of other item types (widgets, tasks) here.
  #messageOf(item) {
    let message;
    if (item.type === "workflow") message = workflowElement(item.workflow);
    else if (Object.hasOwn(SPEAKERS, item.type)) message = this.#textMessage(item);
    else return null;
    message.dataset.id = item.id;
    this.messages.set(item.id, message);
    return message;
  }

  #textMessage(item) {
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
    image.addEventListener("error", renew, { once: true }); // its URL expires after some minutes
    return image;
  }

  async #open({ id, type }) {
    // Open an image's window at once: browsers allow it only during the click.
    const view = type === "image" ? window.open("", "_blank") : window;
    try {
      const { content_url: address } = await this.getAttachment(id);
      (view ?? window).location.assign(address); // a file is downloaded, so the page stays
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

// The text node of one content part. Parts may arrive out of order.
function partAt(message, index) {
  const parts = message.getElementsByClassName("text");
  while (parts.length <= index) {
    const part = element("p", { class: "text" });
    part.append(document.createTextNode(""));
    message.append(part);
  }
  return parts[index].firstChild;
}
