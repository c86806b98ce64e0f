// What this browser remembers about answers, because ChatKit's protocol does not send it: whether an answer was cut
// short, and the user's thumb. localStorage has only ids and these marks, and no text of a chat.

const KEY = "chat.marks";
const MAX_THREADS = 200; // the oldest are forgotten

/** `cuts`: "stopped" or "broke off" by the id of the user's message. `thumbs`: the thumb by the id of the answer. */
export function marksOf(threadId) {
  return { cuts: {}, thumbs: {}, ...read()[threadId] };
}

/** Sets a mark; `value` null removes it. `kind`: "cuts" or "thumbs". */
export function mark(threadId, kind, itemId, value) {
  const { [threadId]: _, ...others } = read();
  const marks = marksOf(threadId);
  if (value) marks[kind][itemId] = value;
  else delete marks[kind][itemId];
  const used = Object.keys(marks.cuts).length || Object.keys(marks.thumbs).length;
  const entries = Object.entries(used ? { ...others, [threadId]: marks } : others);
  write(Object.fromEntries(entries.slice(-MAX_THREADS)));
}

export function forgetMarks(threadId) {
  const { [threadId]: _, ...others } = read();
  write(others);
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // the browser forbids storage, or somebody has changed the text
  }
}

function write(marks) {
  try {
    localStorage.setItem(KEY, JSON.stringify(marks));
  } catch {} // the marks are then lost at a reload
}
