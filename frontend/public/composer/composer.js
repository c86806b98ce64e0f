// The composer: the text of the next message, its files and model, and the button that sends it or stops the answer.

import { Attachments } from "./attachments.js";
import { acceptDroppedFiles } from "./dropped-files.js";
import { Dictation } from "./dictation.js";

const TYPING_IS_EASY = matchMedia("(pointer: fine)"); // on a touch screen, focus would open the keyboard

const $ = (id) => document.getElementById(id);
const form = $("composer");
const message = $("message");
const button = $("send");
const model = $("model");

export class Composer {
  #conversation = null; // the open conversation

  /** `chatkit()` returns the client. `report(error, show)` handles an error. `send(draft)` sends a message. */
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
    this.dictation = new Dictation({ button: $("dictate"), problem: $("attach-alert"), chatkit, report, write: (text) => this.#insert(text) });
    acceptDroppedFiles($("conversation"), (files) => this.attachments.add(files));
    form.addEventListener("submit", (event) => this.#sendOrStop(event));
    // A double click on Send must not stop the answer.
    button.addEventListener("click", (event) => event.detail > 1 && event.preventDefault());
    message.addEventListener("keydown", (event) => this.#sendOnEnter(event));
    message.addEventListener("paste", (event) => this.#attachPasted(event));
  }

  /** `models`: the names to choose from; the first is the default. `dictation`: whether the server transcribes. */
  offer({ models, dictation }) {
    model.replaceChildren(...models.map((name) => new Option(name, name)));
    $("model-choice").hidden = models.length < 2;
    this.dictation.offer(dictation);
  }

  /** Sets the conversation of the next message; null without a signed-in user. */
  writeTo(conversation) {
    this.#conversation = conversation;
    this.dictation.stop();
    this.attachments.forgetProblem();
    this.render();
    if (conversation) this.focus();
  }

  focus() {
    if (TYPING_IS_EASY.matches) message.focus();
  }

  /** Shows a message again after the server has refused it. */
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
    if (!this.#conversation) return; // an upload may end after the sign-out
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
      this.send({ text, attachments: this.attachments.take(), model: this.#chosenModel });
    }
  }

  // Undefined for the default model: the server knows its default.
  get #chosenModel() {
    return model.selectedIndex > 0 ? model.value : undefined;
  }

  #sendOnEnter(event) {
    // isComposing: this Enter confirms a word in an input method.
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

  #insert(text) {
    message.setRangeText(text, message.selectionStart, message.selectionEnd, "end");
    message.focus();
  }
}
