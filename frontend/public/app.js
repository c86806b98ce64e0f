// The page: sign-in, sign-out, and the open chat. The URL's fragment is #/<thread id>, or #/ for a new chat.

import { ChatKitError, createChatKit } from "./chatkit.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { createFollower } from "./follow.js";
import * as session from "./session.js";
import { setUpSignIn, showSignIn } from "./sign-in.js";
import { ThreadList, titleOf } from "./thread-list.js";

const PAGE_SIZE = 20;

const $ = (id) => document.getElementById(id);
const chat = $("chat");
const scroll = $("scroll");

let chatkitUrl;
let chatkit; // the client of the signed-in user
let user = null;
let lastUser = null;
let leaving; // an AbortController: it aborts all requests of a user who signs out
let current = null; // the open Conversation
const answering = new Set(); // Conversations with a running stream. Opening another chat does not stop a stream.
const threads = new ThreadList(() => chatkit, report);
const follower = createFollower(scroll);
const composer = new Composer({ chatkit: () => chatkit, report, send: (draft) => send(current, draft) });

await start();

async function start() {
  setUpSignIn(enter);
  $("start-again").addEventListener("click", () => location.reload());
  $("sign-out").addEventListener("click", signOut);
  $("toggle-threads").addEventListener("click", () => showThreads(!chat.classList.contains("threads-open")));
  $("threads").addEventListener("click", (event) => event.target.closest("a") && showThreads(false));
  chat.addEventListener("keydown", (event) => event.key === "Escape" && !event.isComposing && escape());
  window.addEventListener("hashchange", openAddressed);
  document.addEventListener("visibilitychange", () => document.hidden || confirmUser());
  try {
    ({ chatkitUrl } = await (await fetch("/config.json")).json());
    const known = await session.current();
    if (known) enter(known);
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
  chatkit = createChatKit({ url: chatkitUrl, token: () => session.tokenOf(newcomer.id), leaving: leaving.signal });
  $("who-name").textContent = user.name;
  $("who-email").textContent = user.email;
  chat.hidden = false;
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

/** Leaves if another user has signed in in another tab. That user must not see this chat. */
async function confirmUser() {
  if (!user) return;
  const { signal } = leaving;
  try {
    await session.confirm(user.id);
  } catch (error) {
    // Ignore other errors: they say nothing about the user, and each request checks the session again.
    if (error instanceof session.SessionEnded && !signal.aborted) leave(error.message);
  }
}

/** Shows the sign-in form. Only the data that `forget` removes stays in the page. */
function leave(why) {
  leaving.abort();
  if (current?.pending) composer.restore(current.pending);
  user = null;
  current = null;
  answering.clear();
  composer.writeTo(null);
  threads.clear();
  scroll.replaceChildren();
  for (const id of ["who-name", "who-email", "thread-title", "chat-alert"]) $(id).textContent = "";
  showThreads(false);
  chat.hidden = true;
  showSignIn(why);
}

/** Shows an error with `show`, or shows the sign-in form if the session has ended. */
function report(error, show) {
  if (!user || error.name === "AbortError") return; // the user has signed out
  if (error instanceof session.SessionEnded) return leave(error.message);
  if (!(error instanceof ChatKitError)) console.error(error);
  show(error.message);
}

// Opening a chat

function openAddressed() {
  if (!user) return;
  const threadId = location.hash.slice("#/".length) || null;
  if (current && threadId === current.threadId) return;
  $("chat-alert").textContent = "";
  const known = [...answering].find((conversation) => threadId && conversation.threadId === threadId);
  show(known ?? newConversation(threadId));
  if (threadId && !known) load(current);
}

function newConversation(threadId = null) {
  return new Conversation({ threadId, getAttachment: chatkit.getAttachment, report, answerAgain });
}

function show(conversation) {
  current = conversation;
  follower.watch(conversation.element);
  renderTitle();
  composer.writeTo(current);
}

async function load(conversation) {
  conversation.loading = true;
  conversation.progress.textContent = "Loading…";
  composer.render();
  try {
    const thread = await chatkit.getThread(conversation.threadId);
    conversation.title = titleOf(thread);
    conversation.earlierButton.onclick = () => loadEarlier(conversation);
    // getThread returns the first items. For a longer chat, show the last ones.
    if (thread.items.has_more) await prependPage(conversation);
    else conversation.prepend(thread.items.data);
  } catch (error) {
    report(error, (text) => {
      if (conversation !== current) return;
      if (error.status !== 404) return conversation.alert(text, { again: () => load(conversation) });
      history.replaceState(null, "", "#/");
      show(newConversation());
      $("chat-alert").textContent = "This chat does not exist, or is not yours.";
    });
  }
  conversation.loading = false;
  conversation.progress.textContent = "";
  if (conversation !== current) return;
  renderTitle();
  composer.render();
}

async function loadEarlier(conversation) {
  if (conversation.loading) return;
  conversation.loading = true;
  try {
    await prependPage(conversation);
    if (conversation === current && conversation.earlierButton.hidden) scroll.focus(); // the hidden button had the focus
  } catch (error) {
    report(error, (text) => conversation.alert(text));
  }
  conversation.loading = false;
}

async function prependPage(conversation) {
  let page;
  do {
    const after = page?.after ?? conversation.cursor;
    page = await chatkit.listItems(conversation.threadId, { order: "desc", limit: PAGE_SIZE, after });
    follower.hold(() => conversation.prepend(page.data.reverse()));
  } while (page.has_more && page.after && !page.data.length); // hidden items can leave a page empty
  conversation.cursor = page.after;
  conversation.earlierButton.hidden = !page.has_more;
}

// Sending

function send(conversation, draft) {
  const { threadId } = conversation;
  return stream(conversation, draft, (signal) =>
    threadId ? chatkit.addUserMessage(threadId, draft, signal) : chatkit.createThread(draft, signal),
  );
}

function answerAgain(conversation) {
  const { threadId, lastMessageId } = conversation;
  return stream(conversation, null, (signal) => chatkit.answerAgain(threadId, lastMessageId, signal));
}

async function stream(conversation, draft, ask) {
  $("chat-alert").textContent = "";
  const signal = conversation.begin(draft);
  answering.add(conversation);
  follower.follow();
  composer.render();

  let failure;
  try {
    for await (const event of ask(signal)) take(conversation, event);
  } catch (error) {
    failure = error;
  }

  const unsent = conversation.end();
  if (!answering.delete(conversation)) return; // the user has signed out meanwhile
  if (unsent && conversation === current) composer.restore(unsent);
  if (signal.aborted) conversation.note("Stopped.");
  else if (failure) {
    const again = unsent ? () => composer.submit() : () => answerAgain(conversation);
    report(failure, (sentence) => conversation.alert(sentence, { again }));
  }
  composer.render();
}

function take(conversation, event) {
  conversation.apply(event);
  if (event.thread) {
    conversation.threadId = event.thread.id;
    conversation.title = titleOf(event.thread);
    threads.keep(event.thread);
  }
  if (conversation !== current) return;
  if (event.type === "thread.created") history.replaceState(null, "", `#/${event.thread.id}`);
  if (event.thread) renderTitle();
  if (event.type === "stream_options") composer.render();
}

// Rendering

function renderTitle() {
  const title = current.title || (current.threadId ? "Chat" : "New chat");
  $("thread-title").textContent = title;
  document.title = `${title} – Support`;
  threads.mark(current.threadId);
}

function escape() {
  if (chat.classList.contains("threads-open")) showThreads(false);
  else composer.stop();
}

function showThreads(open) {
  if (!open && chat.classList.contains("threads-open")) $("toggle-threads").focus();
  chat.classList.toggle("threads-open", open);
  $("toggle-threads").setAttribute("aria-expanded", String(open));
}
