// One conversation on the page. It applies ChatKit's events.
//
// A screen reader announces only elements that are added to `log`. So a streaming answer is in `growing`, which is
// silent. It moves to the log when it is complete. Older messages must not be announced. They are added to a new
// log that is not on the page yet, because screen readers ignore the content of a new log.

import { button, element } from "../element.js";
import { AgainButton } from "./again-button.js";
import { answerActions } from "./answer-actions.js";
import { showCuts } from "./cuts.js";
import { fileList } from "./files.js";
import { isShown, viewOf } from "./items.js";
import { mark, marksOf } from "./marks.js";
import { Message } from "./message.js";
import { addStep, removeStep, Step } from "./steps.js";

export class Conversation {
  #views = new Map(); // item id -> Message, Step, Widget or another object with an element
  #question = null; // the id of the message that the running stream answers
  #replaced = []; // the elements of the old answer, until a new answer replaces it
  #cutBefore = null; // the mark of the old answer: "stopped", "broke off" or null
  #failed = false; // whether the stream has sent an error
  #pendingCall = null; // a client tool call without output

  /**
   * `host`: what the conversation needs of the page.
   * - `getAttachment(id)`: a promise of the attachment with new URLs
   * - `report(error, show)` handles an error
   * - `answerAgain(conversation)` asks for another answer to the last message
   * - `act(conversation, action, itemId)`: a promise that the action of a widget was handled
   * - `rate(conversation, itemId, kind)`: a promise that is true if the server has stored the thumb
   */
  constructor({ threadId = null, host }) {
    this.threadId = threadId;
    this.host = host;
    this.title = "";
    this.loading = false;
    this.answeredElsewhere = false; // another tab receives an answer now
    this.request = null; // the AbortController of the running stream
    this.mayStop = true;
    this.cursor = undefined; // the cursor of the page before the first message
    this.pending = null; // { text, attachments, element }: sent, but not accepted yet

    this.earlierButton = button("Earlier messages", () => {}, { class: "earlier", hidden: "" });
    this.log = newLog();
    this.growing = element("div", { class: "growing" });
    this.progress = element("p", { class: "progress", role: "status" });
    this.notes = element("div", { "aria-live": "polite" });
    this.problem = element("p", { class: "alert", role: "alert" });
    this.againButton = new AgainButton(() => this.alert(""));
    this.element = element("div", { class: "conversation" });
    this.element.append(this.earlierButton, this.log, this.growing, this.progress, this.notes);
    this.element.append(this.problem, this.againButton.element);
  }

  /** The id of the user's last message. */
  get lastMessageId() {
    return [...this.log.querySelectorAll(".user_message")].at(-1)?.dataset.id;
  }

  /** The first message of the chat, `{ text, attachments }`, or null if it is not loaded. */
  get firstMessage() {
    if (!this.earlierButton.hidden) return null;
    const first = this.#views.get(this.log.querySelector(".user_message")?.dataset.id);
    return first ? { text: first.text, attachments: first.item.attachments ?? [] } : this.pending;
  }

  /** A client tool call that waits for its output, if nothing came after it. */
  get pendingCall() {
    return this.#pendingCall;
  }

  // Showing what is stored

  /** Adds older items, oldest first, before the others. */
  prepend(items) {
    const log = newLog();
    for (const item of items) this.#place(log, this.#view(item));
    log.append(...this.log.childNodes);
    this.log.replaceWith(log);
    this.log = log;
    this.settle();
  }

  /** Shows only these items, unless the page already ends with them. Returns whether it has changed the page. */
  refresh(items) {
    const fresh = items.filter(isShown).map(versionOf);
    if (!fresh.length) return false; // hidden items can leave a page empty
    const shown = [...this.#views.values()].map(({ item }) => item).filter(Boolean);
    const inOrder = [...this.log.querySelectorAll("[data-id]")].map(({ dataset }) => dataset.id);
    const newest = inOrder.map((id) => shown.find((item) => item.id === id)).filter(Boolean).map(versionOf);
    if (fresh.join() === newest.slice(-fresh.length).join()) return false;
    this.#views.clear();
    this.log.replaceChildren();
    this.prepend(items);
    return true;
  }

  /** Marks answers that were cut short, and offers an answer to a last message that has none. */
  settle() {
    if (this.request || this.answeredElsewhere) return;
    const { cuts } = this.threadId ? marksOf(this.threadId) : { cuts: {} };
    showCuts(this.log, cuts);
    for (const each of this.log.querySelectorAll(".another")) each.hidden = each.closest("article").nextElementSibling;
    this.notes.querySelector(".unanswered")?.remove();
    const last = [...this.log.querySelectorAll(".message")].at(-1);
    const question = this.lastMessageId;
    if (!question || this.problem.textContent || this.#pendingCall) return;
    const isAnswered = last.dataset.id !== question; // steps do not count as an answer
    if (!isAnswered && cuts[question] !== "stopped") this.note("This message has no answer yet.", "unanswered");
    const ask = () => this.host.answerAgain(this);
    this.againButton.offer(isAnswered && !cuts[question] ? null : ask, isAnswered ? "Try again" : "Get an answer");
  }

  // A stream

  /** `draft`: the message, `{ text, attachments }`, or null. `replaces`: another answer to the last message follows. */
  begin({ draft = null, replaces = false } = {}) {
    this.request = new AbortController();
    this.mayStop = true;
    this.#failed = false;
    this.#pendingCall = null;
    this.#question = null;
    this.notes.replaceChildren();
    this.alert("");
    this.log.setAttribute("aria-busy", "true");
    if (draft) this.#show(draft);
    if (replaces) this.#prepareToReplace();
    this.progress.textContent = "Thinking…";
    return this.request.signal;
  }

  #show({ text, attachments }) {
    this.element.querySelector(".greeting")?.remove();
    const message = new Message({ type: "user_message", content: text ? [{ text }] : [] });
    if (attachments.length) message.element.append(this.#fileList(attachments));
    message.element.classList.add("pending");
    this.pending = { text, attachments, element: message.element };
    this.growing.append(message.element);
  }

  // The old answer stays until the new one begins. If the new one never begins, nothing is lost.
  #prepareToReplace() {
    this.#cutBefore = marksOf(this.threadId).cuts[this.lastMessageId] ?? null;
    this.#askedBy(this.lastMessageId);
    let each = this.#views.get(this.#question).element;
    while ((each = each.nextElementSibling)) this.#replaced.push(each);
    for (const old of this.#replaced) old.classList.add("replaced");
  }

  #removeReplaced() {
    for (const old of this.#replaced.splice(0)) {
      for (const each of [old, ...old.querySelectorAll("[data-id]")]) this.#views.delete(each.dataset.id);
      old.remove();
    }
  }

  // Until the stream ends well, the answer counts as broken off, even if this page is closed or reloaded.
  #askedBy(messageId) {
    this.#question = messageId;
    mark(this.threadId, "cuts", messageId, "broke off");
  }

  apply(event) {
    if (event.type.startsWith("thread.item.") && event.item?.type !== "user_message") this.#removeReplaced();
    switch (event.type) {
      case "thread.item.added":
        return this.#start(event.item);
      case "thread.item.done":
      case "thread.item.replaced":
        return this.#finish(event.item);
      case "thread.item.removed":
        return this.#remove(event.item_id);
      case "thread.item.updated":
        return this.#update(this.#views.get(event.item_id), event.update);
      case "stream_options":
        this.mayStop = event.stream_options.allow_cancel;
        return;
      case "progress_update":
        this.progress.textContent = event.text;
        if (event.text) addStep(this.log, new Step({ type: "progress", text: event.text }).element);
        return;
      case "notice":
        return this.note([event.title, event.message].filter(Boolean).join(": "), event.level);
      case "error":
        this.#failed = true;
        return this.alert(event.message || "Something went wrong while answering.", {
          again: event.allow_retry && this.lastMessageId ? () => this.host.answerAgain(this) : null,
        });
    }
  }

  /** Ends the stream. Returns the message, `{ text, attachments }`, if the server did not accept it; otherwise null. */
  end({ stopped = false, failed = false } = {}) {
    const unsent = this.pending;
    this.pending?.element.remove();
    for (const view of this.#views.values()) if (this.growing.contains(view.element)) view.finish?.();
    // Like the server, keep the partial answer, but no unfinished thoughts.
    for (const partial of this.growing.querySelectorAll(".message:has(.text:not(:empty))")) this.log.append(partial);
    this.growing.replaceChildren();
    const kept = this.#replaced.splice(0);
    for (const old of kept) old.classList.remove("replaced");
    this.progress.textContent = "";
    this.log.setAttribute("aria-busy", "false");
    this.request = this.pending = null;
    const cut = stopped ? "stopped" : failed || this.#failed ? "broke off" : null;
    if (this.#question) mark(this.threadId, "cuts", this.#question, kept.length ? this.#cutBefore : cut);
    return unsent;
  }

  note(text, level = "info") {
    this.notes.append(element("p", { class: `note ${level}` }, text));
  }

  /** `again`: the action of the button "Try again"; null hides the button. `seconds`: how long it is disabled. */
  alert(text, { again = null, seconds = 0 } = {}) {
    this.problem.textContent = text;
    this.againButton.offer(again, "Try again", seconds);
  }

  #start(item) {
    const view = this.#view(item);
    this.#place(this.growing, view);
    if (item.type === "workflow") this.progress.textContent = "Thinking…"; // also after a part of the answer
  }

  #finish(item) {
    const before = this.#views.get(item.id)?.element;
    const view = this.#view(item);
    if (item.type === "user_message") {
      this.#askedBy(item.id);
      this.pending?.element.remove();
      this.pending = null;
    }
    if (item.type === "client_tool_call") this.#pendingCall = item.status === "pending" ? item : null;
    if (!view) return;
    if (before && this.log.contains(before)) before.replaceWith(view.element);
    else {
      if (before && view instanceof Step) before.replaceWith(view.element); // so that its box stays open
      else before?.remove();
      this.#place(this.log, view);
    }
  }

  #remove(itemId) {
    const removed = this.#views.get(itemId)?.element;
    if (removed?.matches(".step")) removeStep(removed);
    else removed?.remove();
    this.#views.delete(itemId);
    // The visible answer was removed, and another one follows.
    if (this.request && !this.growing.querySelector(".text:not(:empty)")) this.progress.textContent = "Thinking…";
  }

  #update(view, update) {
    if (!view) return; // items of this type are not shown
    if (!(view instanceof Message)) return view.update?.(update);
    switch (update.type) {
      case "assistant_message.content_part.added":
      case "assistant_message.content_part.done":
        view.setPart(update.content_index, update.content);
        break;
      case "assistant_message.content_part.text_delta":
        view.appendTo(update.content_index, update.delta);
        break;
      case "assistant_message.content_part.annotation_added":
        view.addSource(update.annotation);
        break;
    }
    if (this.progress.textContent && view.text) this.progress.textContent = "";
  }

  // Elements

  #view(item) {
    const view = viewOf(item, { act: (action) => this.host.act(this, action, item.id) });
    if (!view) return null;
    view.item = item;
    if (item.attachments?.length) view.element.append(this.#fileList(item.attachments));
    if (item.type === "assistant_message") this.#addActions(view);
    this.#views.set(item.id, view);
    return view;
  }

  #place(container, view) {
    if (view instanceof Step) addStep(container, view.element);
    else if (view) container.append(view.element);
  }

  #fileList(attachments) {
    const report = (error) =>
      this.host.report(error, (text) => this.alert(error.status === 404 ? "This file has been deleted." : text));
    return fileList(attachments, { getAttachment: this.host.getAttachment, report });
  }

  #addActions(message) {
    message.element.append(
      answerActions({
        text: () => message.text,
        thumb: this.threadId && marksOf(this.threadId).thumbs[message.id],
        rate: (kind) => this.host.rate(this, message.id, kind),
        again: () => this.host.answerAgain(this),
      }),
    );
  }
}

function newLog() {
  return element("div", { class: "log", role: "log", "aria-live": "polite", "aria-label": "Messages", "aria-busy": "false" });
}

// A text that differs between two versions of an item. It leaves out the URLs of files, because they change often.
function versionOf({ id, widget, status }) {
  return `${id} ${JSON.stringify(widget ?? status ?? "")}`;
}
