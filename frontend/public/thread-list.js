// The list of chats, newest first. It loads page by page.

import { dateOf } from "./chatkit.js";
import { element } from "./element.js";

const PAGE_SIZE = 20;

const list = document.getElementById("thread-list");
const more = document.getElementById("more-threads");
const alert = document.getElementById("threads-alert");
const dateFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export class ThreadList {
  #threads = [];
  #entries = new Map(); // thread id -> <li>
  #cursor;
  #open = null;
  #visit = 0; // changes with clear(): a page that was requested before may belong to another user

  /** `chatkit()` returns the client. `report(error, show)` handles an error. */
  constructor(chatkit, report) {
    this.chatkit = chatkit;
    this.report = report;
    more.addEventListener("click", () => this.load());
  }

  async load() {
    const visit = this.#visit;
    alert.textContent = "";
    list.setAttribute("aria-busy", "true");
    try {
      const page = await this.chatkit().listThreads({ limit: PAGE_SIZE, order: "desc", after: this.#cursor });
      if (visit !== this.#visit) return;
      this.#threads.push(...page.data.filter((thread) => !this.find(thread.id)));
      this.#cursor = page.after;
      more.hidden = !page.has_more;
      more.textContent = "Older chats";
      this.#render();
    } catch (error) {
      if (visit !== this.#visit) return;
      more.hidden = false;
      more.textContent = "Try again";
      this.report(error, (message) => (alert.textContent = message));
    } finally {
      list.setAttribute("aria-busy", "false");
    }
  }

  find(threadId) {
    return this.#threads.find((thread) => thread.id === threadId);
  }

  /** Adds a new thread, or replaces a changed one. */
  keep(thread) {
    const index = this.#threads.findIndex(({ id }) => id === thread.id);
    if (index < 0) this.#threads.unshift(thread);
    else this.#threads[index] = thread;
    this.#render();
  }

  /** Marks the open chat. */
  mark(threadId) {
    this.#open = threadId;
    this.#render();
  }

  clear() {
    this.#visit += 1;
    this.#threads = [];
    this.#entries.clear();
    this.#cursor = undefined;
    list.replaceChildren();
    alert.textContent = "";
    more.hidden = true;
  }

  // Reuse the entries and move none: a moved entry would lose the keyboard's focus.
  #render() {
    this.#threads.forEach((thread, index) => {
      const entry = this.#entries.get(thread.id) ?? this.#newEntry(thread);
      const link = entry.firstChild;
      link.textContent = titleOf(thread);
      if (thread.id === this.#open) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
      if (list.children[index] !== entry) list.insertBefore(entry, list.children[index] ?? null);
    });
  }

  #newEntry(thread) {
    const entry = element("li");
    entry.append(element("a", { href: `#/${thread.id}` }));
    this.#entries.set(thread.id, entry);
    return entry;
  }
}

export function titleOf(thread) {
  return thread.title || dateFormat.format(dateOf(thread.created_at));
}
