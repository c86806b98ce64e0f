// A small client of the ChatKit protocol: one POST endpoint that answers with JSON or a stream of events.

import { OUTAGES, SessionEnded, unreachable } from "../session.js";
import { readEvents } from "./sse.js";

// The backend's answers to a valid token whose session or user no longer exists.
const GONE = {
  "No active sessions found for user": "Your session has ended. Sign in again to go on.",
  "User not found with provided email": "This account does not exist any more.",
};

/**
 * `message` is one sentence for the user. `status` is the HTTP status, or 0 without an answer. `seconds`: how long
 * the server wants the user to wait.
 */
export class ChatKitError extends Error {
  constructor(message, { status = 0, seconds = 0, brokeOff = false, cause } = {}) {
    super(message, { cause });
    Object.assign(this, { status, seconds, brokeOff });
  }

  /** Whether the connection or the server is down, and may come back. */
  get isOutage() {
    return [0, ...OUTAGES].includes(this.status) && !this.brokeOff;
  }
}

/**
 * A client for one user. `url`: the endpoint. `token()`: a promise of a new token for this user (session.js).
 * `leaving`: an AbortSignal that aborts all requests when the user signs out.
 */
export function createChatKit({ url, token, leaving }) {
  // fetch with a bearer token. After a 401 it tries once more with a new token. OpenAI's widget can use it as
  // `api.fetch`.
  async function authorizedFetch(input, init = {}) {
    const target = new URL(input, url);
    const signal = init.signal ? AbortSignal.any([leaving, init.signal]) : leaving;
    // Uploads to presigned storage use this function too. They must not contain the token.
    if (target.origin !== new URL(url).origin) return fetch(target, { ...init, signal });
    const send = (bearer) => {
      const headers = new Headers(init.headers);
      headers.set("Authorization", `Bearer ${bearer}`);
      return fetch(target, { ...init, headers, signal, credentials: "omit" });
    };
    const response = await send(await token());
    if (response.status !== 401) return response;
    await response.body?.cancel();
    return send(await token());
  }

  async function reach(input, init) {
    try {
      return await authorizedFetch(input, init);
    } catch (cause) {
      leaving.throwIfAborted(); // another user must not see this user's error
      // fetch raises TypeError without a connection. Other errors have their message: an ended session, an abort.
      if (!(cause instanceof TypeError)) throw cause;
      throw new ChatKitError(unreachable("chat"), { cause });
    }
  }

  async function failure(response) {
    const error = await errorOf(response);
    leaving.throwIfAborted();
    return error;
  }

  async function post(type, params, { accept, signal }) {
    const response = await reach(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: accept },
      body: JSON.stringify({ type, params }),
      signal,
    });
    if (response.ok && response.headers.get("Content-Type")?.startsWith(accept)) return response;
    throw await failure(response);
  }

  async function ask(type, params, signal) {
    const response = await post(type, params, { accept: "application/json", signal });
    return response.json().catch(brokenOff);
  }

  async function* stream(type, params, signal) {
    const response = await post(type, params, { accept: "text/event-stream", signal });
    try {
      for await (const data of readEvents(response.body)) yield JSON.parse(data);
    } catch (cause) {
      brokenOff(cause);
    }
  }

  // Create the attachment first, so that the server can refuse it before the upload.
  async function uploadAttachment(file, signal) {
    const claim = { name: file.name, size: file.size, mime_type: file.type };
    const { upload_descriptor: to, ...attachment } = await ask("attachments.create", claim, signal);
    const body = new FormData();
    body.append("file", file);
    const init = { method: to.method, headers: to.headers, body, signal };
    const response = await reach(to.url, init);
    if (!response.ok) throw await failure(response);
    return { ...attachment, ...(await response.json()) };
  }

  /** The attachment with new URLs. Old ones expire. */
  async function getAttachment(attachmentId) {
    const response = await reach(`${new URL(url).pathname.replace(/[^/]*$/, "")}attachments/${attachmentId}`);
    if (!response.ok) throw await failure(response);
    return response.json();
  }

  return {
    authorizedFetch,
    uploadAttachment,
    getAttachment,
    deleteAttachment: (attachmentId) => ask("attachments.delete", { attachment_id: attachmentId }),
    listThreads: (page = {}) => ask("threads.list", page),
    getThread: (threadId) => ask("threads.get_by_id", { thread_id: threadId }),
    listItems: (threadId, page = {}) => ask("items.list", { thread_id: threadId, ...page }),
    createThread: (message, signal) => stream("threads.create", { input: inputOf(message) }, signal),
    addUserMessage: (threadId, message, signal) =>
      stream("threads.add_user_message", { thread_id: threadId, input: inputOf(message) }, signal),
    /** Asks for another answer to a message. It replaces all later items. */
    answerAgain: (threadId, messageId, signal) =>
      stream("threads.retry_after_item", { thread_id: threadId, item_id: messageId }, signal),
    /** The output of a tool that the assistant wanted the page to run. */
    addToolOutput: (threadId, result, signal) =>
      stream("threads.add_client_tool_output", { thread_id: threadId, result }, signal),
    /** `action`: `{ type, payload }` of a widget. */
    act: (threadId, itemId, action, signal) =>
      stream("threads.custom_action", { thread_id: threadId, item_id: itemId, action }, signal),
    /** Runs an action without a stream. Returns the changed item, if there is one. */
    actSilently: async (threadId, itemId, action) =>
      (await ask("threads.sync_custom_action", { thread_id: threadId, item_id: itemId, action })).updated_item,
    renameThread: (threadId, title) => ask("threads.update", { thread_id: threadId, title }),
    deleteThread: (threadId) => ask("threads.delete", { thread_id: threadId }),
    /** `kind`: positive or negative. */
    rate: (threadId, itemId, kind) => ask("items.feedback", { thread_id: threadId, item_ids: [itemId], kind }),
    /** `audio`: a Blob. */
    transcribe: async (audio) =>
      (await ask("input.transcribe", { audio_base64: await base64Of(audio), mime_type: audio.type })).text,
  };
}

// ChatKit requires the empty members.
function inputOf({ text, attachments, model }) {
  const content = text ? [{ type: "input_text", text }] : [];
  return { content, attachments: attachments.map(({ id }) => id), inference_options: model ? { model } : {} };
}

function base64Of(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)); // without "data:…;base64,"
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function brokenOff(cause) {
  if (cause.name === "AbortError") throw cause; // the user has stopped the stream
  throw new ChatKitError("The answer broke off before it was complete.", { brokeOff: true, cause });
}

async function errorOf(response) {
  const message = (await response.json().catch(() => null))?.message;
  if (response.status === 401) return new SessionEnded("Your sign-in was not accepted. Sign in again to go on.");
  if (response.status === 404 && Object.hasOwn(GONE, message)) return new SessionEnded(GONE[message]);
  const seconds = Number(response.headers.get("Retry-After")) || 0;
  return new ChatKitError(sentenceFor(response.status, seconds, message), { status: response.status, seconds });
}

function sentenceFor(status, seconds, message) {
  if (status === 429) return `That was a lot in a short time. Try again ${momentOf(seconds)}.`;
  // Do not show the message of a 5xx: it is for the operator, or it comes from a proxy.
  if (status < 500 && message) return message.replace(/[^.]$/, "$&.");
  return `The chat service does not work at the moment (${status}). Try again in a moment.`;
}

function momentOf(seconds) {
  if (!seconds) return "in a moment";
  return seconds === 1 ? "in a second" : `in ${seconds} seconds`;
}
