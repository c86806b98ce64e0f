// The page: sign-in, sign-out, and which chat is open. The URL's fragment is #/<thread id>, or #/ for a new chat.

import { Chat } from "./chat.js";
import { ChatKitError, createChatKit } from "./client/chatkit.js";
import { Composer } from "./composer/composer.js";
import { Connection } from "./connection.js";
import { forgetMarks } from "./conversation/marks.js";
import { allowImagesUnder } from "./conversation/markdown.js";
import * as session from "./session.js";
import { setUpSignIn, showSignIn } from "./sign-in.js";
import { ThreadList } from "./thread-list.js";

const LOOKS_AGAIN_AFTER_MS = 2000; // a return to the tab raises several events

const $ = (id) => document.getElementById(id);
const view = $("chat");

let config; // of the page's server
let chatkit; // the client of the signed-in user
let user = null;
let lastUser = null;
let lastLook = 0;
let leaving; // an AbortController: it aborts all requests of a user who signs out
const chat = new Chat({
  chatkit: () => chatkit,
  report,
  composer: () => composer,
  threads: () => threads,
  suggestions: () => config.suggestions,
});
const threads = new ThreadList({
  chatkit: () => chatkit,
  report,
  renamed: (thread) => chat.retitle(thread),
  deleted: ({ id }) => {
    forgetMarks(id);
    if (chat.current?.threadId === id) chat.startNew();
  },
});
const composer = new Composer({ chatkit: () => chatkit, report, send: (draft) => chat.send(draft) });
const connection = new Connection({
  notice: $("connection"),
  probe: () => chatkit.listThreads({ limit: 1 }),
  found: () => {
    if (threads.failed) threads.load();
    else threads.refresh();
    chat.refresh();
  },
});

await start();

async function start() {
  setUpSignIn(enter);
  $("start-again").addEventListener("click", () => location.reload());
  $("sign-out").addEventListener("click", signOut);
  $("toggle-threads").addEventListener("click", () => showThreads(!view.classList.contains("threads-open")));
  $("threads").addEventListener("click", (event) => event.target.closest("a") && showThreads(false));
  // On the document: the focused button may disappear, and then no element of the page has the focus.
  document.addEventListener("keydown", (event) => event.key === "Escape" && !event.isComposing && escape(event));
  window.addEventListener("hashchange", openAddressed);
  window.addEventListener("focus", look);
  document.addEventListener("visibilitychange", () => document.hidden || look());
  try {
    const [answer, known] = await Promise.all([fetch("/config.json"), session.current()]);
    config = await answer.json();
    allowImagesUnder(new URL("attachments/", config.chatkitUrl).href);
    composer.offer(config);
    if (known && !session.clientRequest) enter(known);
    else showSignIn();
  } catch (error) {
    console.error(error);
    $("start-alert").textContent = session.unreachable("chat");
    $("start-again").hidden = false;
  }
}

// Sign-in and sign-out

function enter(newcomer) {
  if (lastUser && lastUser.id !== newcomer.id) forget();
  user = lastUser = newcomer;
  leaving = new AbortController();
  const token = () => session.tokenOf(newcomer.id);
  chatkit = createChatKit({ url: config.chatkitUrl, token, leaving: leaving.signal });
  $("who-name").textContent = user.name;
  $("who-email").textContent = user.email;
  view.hidden = false;
  lastLook = Date.now();
  threads.load();
  openAddressed();
}

async function signOut() {
  let why;
  try {
    await session.confirm(user.id); // do not sign out another user who has signed in in another tab
    await session.signOut();
  } catch (error) {
    why = error.message;
    if (!(error instanceof session.SessionEnded)) return ($("chat-alert").textContent = why);
  }
  leave(why);
  forget();
}

/** Removes the draft and the chat's URL. `leave` keeps both, in case the same user signs in again. */
function forget() {
  composer.clear();
  history.replaceState(null, "", "#/");
}

/**
 * Call it when the user comes back to this tab. If another user has signed in, perhaps in another tab, it hides this
 * chat and shows the sign-in form. Otherwise it loads what has changed.
 */
async function look() {
  if (!user) return;
  const { signal } = leaving;
  const isEarly = Date.now() - lastLook < LOOKS_AGAIN_AFTER_MS;
  lastLook = Date.now();
  try {
    await session.confirm(user.id);
  } catch (error) {
    // Ignore other errors: they say nothing about the user, and each request checks the session again.
    if (error instanceof session.SessionEnded && !signal.aborted) leave(error.message);
    return;
  }
  if (signal.aborted || isEarly || threads.failed) return;
  await threads.refresh();
  if (!signal.aborted) await chat.refresh();
}

/** Shows the sign-in form. Only the data that `forget` removes stays in the page. */
function leave(why) {
  leaving.abort();
  connection.reset();
  if (chat.current?.pending) composer.restore(chat.current.pending);
  user = null;
  chat.close();
  composer.writeTo(null);
  threads.clear();
  for (const id of ["who-name", "who-email"]) $(id).textContent = "";
  showThreads(false);
  view.hidden = true;
  showSignIn(why);
}

/** Shows an error with `show`, or shows the sign-in form if the session has ended. */
function report(error, show) {
  if (!user || error.name === "AbortError") return; // the user has signed out
  if (error instanceof session.SessionEnded) return leave(error.message);
  if (error.isOutage) connection.lose();
  else if (!(error instanceof ChatKitError)) console.error(error);
  show(error.message);
}

// The list of chats, and the open one

function openAddressed() {
  if (user) chat.open(location.hash.slice("#/".length) || null);
}

function escape({ target }) {
  if (target.closest("dialog")) return; // Escape closes it
  if (view.classList.contains("threads-open")) showThreads(false);
  else composer.stop();
}

function showThreads(open) {
  if (!open && view.classList.contains("threads-open")) $("toggle-threads").focus();
  view.classList.toggle("threads-open", open);
  $("toggle-threads").setAttribute("aria-expanded", String(open));
}
