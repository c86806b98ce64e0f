// The list of chats, newest first. It loads page by page. Each chat can be renamed and deleted.

import { dayAndTimeOf } from "./dates.js";
import { button, element } from "./element.js";
import { confirmDeletion, titleField } from "./thread-actions.js";

const PAGE_SIZE = 20;
const MAX_TITLE = 40; // characters of a title that this page makes

const list = document.getElementById("thread-list");
const more = document.getElementById("more-threads");
const alert = document.getElementById("threads-alert");

export class ThreadList {
  #threads = [];
  #entries = new Map(); // thread id -> <li>
  #deleted = new Set(); // ids: a page that was requested before may still contain them
  #cursor;
  #open = null;
  #visit = 0; // clear() changes it: an older response may belong to another user
  failed = false; // whether the last page could not be loaded

  /**
   * `chatkit()` returns the client. `report(error, show)` handles an error. `renamed(thread)` and `deleted(thread)`
   * are called after the server has done it.
   */
  constructor({ chatkit, report, renamed, deleted }) {
    Object.assign(this, { chatkit, report, renamed, deleted });
    more.addEventListener("click", () => this.load());
    list.addEventListener("keydown", (event) => this.#useKey(event));
  }

  async load() {
    const visit = this.#visit;
    alert.textContent = "";
    list.setAttribute("aria-busy", "true");
    try {
      const page = await this.chatkit().listThreads({ limit: PAGE_SIZE, order: "desc", after: this.#cursor });
      if (visit !== this.#visit) return;
      this.failed = false;
      this.#threads.push(...page.data.filter(({ id }) => !this.find(id) && !this.#deleted.has(id)));
      this.#cursor = page.after;
      more.hidden = !page.has_more;
      more.textContent = "Older chats";
      this.#render();
    } catch (error) {
      if (visit !== this.#visit) return;
      this.failed = true;
      more.hidden = false;
      more.textContent = "Try again";
      this.report(error, (message) => (alert.textContent = message));
    } finally {
      list.setAttribute("aria-busy", "false");
    }
  }

  /** Loads the first page of the list again, for changes by other tabs. After an error the list stays as it is. */
  async refresh() {
    const visit = this.#visit;
    const page = await this.chatkit().listThreads({ limit: PAGE_SIZE, order: "desc" }).catch(() => null);
    if (!page || visit !== this.#visit) return;
    const data = page.data.filter(({ id }) => !this.#deleted.has(id));
    const fresh = new Set(data.map(({ id }) => id));
    const oldest = page.has_more ? page.data.at(-1)?.created_at : "";
    const older = this.#threads.filter(({ id, created_at: at }) => !fresh.has(id) && at < oldest);
    for (const { id } of this.#threads) if (!fresh.has(id) && !older.some((thread) => thread.id === id)) this.#drop(id);
    this.#threads = [...data, ...older];
    this.#render();
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
    this.failed = false;
    list.replaceChildren();
    alert.textContent = "";
    more.hidden = true;
  }

  // Reuse the entries and move none: a moved entry would lose the keyboard's focus.
  #render() {
    this.#threads.forEach((thread, index) => {
      const entry = this.#entries.get(thread.id) ?? this.#newEntry(thread.id);
      const link = entry.querySelector("a");
      link.textContent = titleOf(thread);
      entry.querySelector(".options").setAttribute("aria-label", `Rename or delete ${titleOf(thread)}`);
      if (thread.id === this.#open) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
      if (list.children[index] !== entry) list.insertBefore(entry, list.children[index] ?? null);
    });
  }

  #newEntry(threadId) {
    const entry = element("li", { class: "entry", "data-id": threadId });
    const options = button("", () => this.#toggleOptions(entry), { icon: "more", class: "options", "aria-expanded": "false" });
    options.title = "Rename or delete";
    entry.append(element("a", { href: `#/${threadId}` }), options);
    this.#entries.set(threadId, entry);
    return entry;
  }

  // Renaming and deleting

  #toggleOptions(entry) {
    const open = list.querySelector(".thread-options");
    const wasOpen = open && entry.contains(open);
    this.#closeOptions();
    if (wasOpen) return;
    const box = element("div", { class: "thread-options" });
    box.append(button("Rename", () => this.#rename(entry)), button("Delete", () => this.#delete(entry)));
    entry.append(box);
    entry.querySelector(".options").setAttribute("aria-expanded", "true");
    box.firstChild.focus();
  }

  #closeOptions() {
    const open = list.querySelector(".thread-options");
    open?.parentElement.querySelector(".options").setAttribute("aria-expanded", "false");
    open?.remove();
  }

  #useKey(event) {
    const entry = event.target.closest("li");
    if (event.key === "Escape" && list.querySelector(".thread-options")) {
      event.stopPropagation();
      this.#closeOptions();
      entry.querySelector(".options").focus();
    } else if (!event.target.matches("a")) return;
    else if (event.key === "F2") this.#rename(entry);
    else if (event.key === "Delete") this.#delete(entry);
    else return;
    event.preventDefault();
  }

  #rename(entry) {
    this.#closeOptions();
    const thread = this.find(entry.dataset.id);
    const link = entry.querySelector("a");
    const finish = () => {
      field.remove();
      link.hidden = false;
      link.focus();
    };
    const save = async (title) => {
      finish();
      if (!title || title === thread.title) return;
      try {
        const renamed = await this.chatkit().renameThread(thread.id, title);
        this.keep(renamed);
        this.renamed(renamed);
      } catch (error) {
        this.report(error, (message) => (alert.textContent = message));
      }
    };
    const field = titleField(titleOf(thread), { save, cancel: finish });
    alert.textContent = "";
    link.hidden = true;
    link.after(field);
    field.select();
  }

  async #delete(entry) {
    this.#closeOptions();
    const thread = this.find(entry.dataset.id);
    alert.textContent = "";
    entry.querySelector("a").focus();
    if (!(await confirmDeletion(titleOf(thread)))) return;
    try {
      await this.chatkit().deleteThread(thread.id);
    } catch (error) {
      return this.report(error, (message) => (alert.textContent = message));
    }
    const next = entry.nextElementSibling ?? entry.previousElementSibling;
    (next?.querySelector("a") ?? document.getElementById("new-chat")).focus();
    this.#deleted.add(thread.id);
    this.#drop(thread.id);
    this.deleted(thread);
  }

  #drop(threadId) {
    this.#threads = this.#threads.filter(({ id }) => id !== threadId);
    this.#entries.get(threadId)?.remove();
    this.#entries.delete(threadId);
  }
}

/** `firstWords`: what this page shows until the thread has a title. */
export function titleOf({ title, firstWords, created_at: createdAt }) {
  return title || firstWords || dayAndTimeOf(createdAt);
}

/** The first words of the message, as a title. */
export function firstWordsOf({ text, attachments }) {
  const words = (text || attachments[0]?.name || "").replace(/\s+/g, " ");
  return words.length > MAX_TITLE ? `${words.slice(0, MAX_TITLE).replace(/ \S*$/, "")}…` : words;
}
