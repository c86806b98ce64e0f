// Tells the other tabs of this browser that this tab receives an answer. A lock ends with its tab.
// Without https, a browser has no locks. Then other tabs show the answer when they get the focus.

const locks = navigator.locks;
const nameOf = (threadId) => `answer:${threadId}`;

/** Holds the lock of the thread until the returned function is called, which may be before the lock is granted. */
export function lockAnswer(threadId) {
  let release;
  const released = new Promise((resolve) => (release = resolve));
  locks?.request(nameOf(threadId), { ifAvailable: true }, () => released);
  return release;
}

/** Whether another tab receives an answer of this thread now. */
export async function isAnsweredElsewhere(threadId) {
  const { held = [] } = (await locks?.query()) ?? {};
  return held.some(({ name }) => name === nameOf(threadId));
}

/** A promise that resolves when no tab receives an answer of this thread. */
export async function answered(threadId) {
  await locks.request(nameOf(threadId), { mode: "shared" }, () => {});
}
