// The notice above the composer while there is no connection, or while the server does not answer. It tries the server
// again and again. When the server answers, it calls `found`.

const FIRST_PAUSE_MS = 2000;
const LONGEST_PAUSE_MS = 30_000;
const FOUND_SHOWN_MS = 8000;

export class Connection {
  #timer = 0;
  #pause = FIRST_PAUSE_MS;
  isLost = false;

  /** `probe()`: a promise. It rejects with an error that has `isOutage` while the server does not answer. */
  constructor({ notice, probe, found }) {
    Object.assign(this, { notice, probe, found });
    window.addEventListener("offline", () => this.lose());
    window.addEventListener("online", () => this.isLost && this.#look());
  }

  /** Call it after a request that did not reach the server. */
  lose() {
    if (this.isLost) return this.#say();
    this.isLost = true;
    this.#pause = FIRST_PAUSE_MS;
    this.#say();
    this.#lookLater();
  }

  /** Removes the notice, and stops trying the server. Call it after a sign-out. */
  reset() {
    clearTimeout(this.#timer);
    this.isLost = false;
    this.notice.textContent = "";
  }

  #say() {
    this.notice.textContent = navigator.onLine
      ? "The server does not answer. It may be restarting. This page tries again by itself."
      : "You are offline. This page tries again when you are connected.";
  }

  #lookLater() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), this.#pause);
    this.#pause = Math.min(this.#pause * 1.5, LONGEST_PAUSE_MS);
  }

  async #look() {
    clearTimeout(this.#timer);
    try {
      await this.probe();
    } catch (error) {
      if (!this.isLost) return; // the user has signed out meanwhile
      if (error.isOutage) {
        this.#say();
        return this.#lookLater();
      }
    }
    if (!this.isLost) return;
    this.isLost = false;
    this.notice.textContent = "The connection is back.";
    this.#timer = setTimeout(() => (this.notice.textContent = ""), FOUND_SHOWN_MS);
    this.found();
  }
}
