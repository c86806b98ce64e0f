// What the reader is about to say: the text, its files, and the button that sends it or stops the answer.

import { Attachments } from "./attachments.js";

const TYPING_IS_EASY = matchMedia("(pointer: fine)"); // elsewhere focus would open the keyboard over the page

const $ = (id) => document.getElementById(id);
const form = $("composer");
const message = $("message");
const button = $("send");

export class Composer {
  #conversation = null; // the open one

  /** `chatkit()` gives the client; `report(error, show)` decides what an error means; `send(said)` sends it. */
  constructor({ chatkit, report, send }) {
    this.send = send;
    this.attachments = new Attachments({
      list: $("chips"),
      input: $("attach"),
      problem: $("attach-alert"),
      chatkit,
      report,
      changed: () => this.render(),
    });
    form.addEventListener("submit", (event) => this.#sendOrStop(event));
    button.addEventListener("click", (event) => event.detail > 1 && event.preventDefault()); // a double click is no Stop
    message.addEventListener("keydown", (event) => this.#sendOnEnter(event));
    message.addEventListener("paste", (event) => this.#attachPasted(event));
  }

  /** From now on this writes to `conversation`; null: to none, as nobody is signed in. */
  writeTo(conversation) {
    this.#conversation = conversation;
    this.render();
    if (conversation && TYPING_IS_EASY.matches) message.focus();
  }

  /** Puts back what the server did not take. */
  restore({ text, attachments }) {
    message.value = [text, message.value].filter(Boolean).join("\n");
    this.attachments.restore(attachments);
  }

  clear() {
    message.value = "";
    this.attachments.clear();
  }

  submit() {
    form.requestSubmit();
  }

  stop() {
    if (this.#conversation?.mayStop) this.#conversation.request?.abort();
  }

  render() {
    if (!this.#conversation) return; // an upload may end when the reader has signed out
    const { request, loading, mayStop } = this.#conversation;
    button.textContent = request ? "Stop" : "Send";
    button.classList.toggle("primary", !request);
    button.disabled = loading || (request ? !mayStop : this.attachments.uploading);
    $("message-hint").textContent = request && mayStop ? "Esc stops the answer." : "Enter sends, Shift+Enter starts a new line.";
  }

  #sendOrStop(event) {
    event.preventDefault();
    const text = message.value.trim();
    const { uploaded, uploading } = this.attachments;
    if (this.#conversation.request) this.stop();
    else if ((text || uploaded.length) && !this.#conversation.loading && !uploading) {
      message.value = "";
      this.send({ text, attachments: this.attachments.take() });
    }
  }

  #sendOnEnter(event) {
    // isComposing: this Enter ends a word in an input method.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!this.#conversation.request) this.submit();
  }

  #attachPasted(event) {
    const { files } = event.clipboardData;
    if (!files.length) return;
    event.preventDefault();
    this.attachments.add(files);
  }
}
