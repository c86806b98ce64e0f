// The session and its tokens, from Better Auth. The session is an HttpOnly cookie: scripts cannot read it, and all
// tabs of the browser share it.

/** The user has to sign in again. The message is for the user. */
export class SessionEnded extends Error {}

/** The statuses of a server that is down, and may come back. An error without a response has `isOutage` too. */
export const OUTAGES = [502, 503, 504];

/** The request of an OAuth client that needs the user's sign-in or consent. Better Auth has signed it in the URL. */
export const clientRequest = new URLSearchParams(location.search).has("sig") ? location.search.slice("?".length) : "";

export const REQUEST_ENDED = "This request has ended. Connect again in your app.";
const ENDED = "Your session has ended. Sign in again to go on.";
const SOMEBODY_ELSE = "Somebody else has signed in with this browser. Sign in again to go on.";

export async function current() {
  return (await call("/get-session"))?.user ?? null;
}

export function signUp({ name, email, password }) {
  return enter("/sign-up/email", { name, email, password });
}

export function signIn({ email, password }) {
  return enter("/sign-in/email", { email, password });
}

export async function signOut() {
  await call("/sign-out", {});
}

/**
 * A new token of this user for the backend. Get a new one before each request, because another user may have
 * signed in in another tab.
 */
export async function tokenOf(userId) {
  const { token } = await call("/token").catch((error) => {
    throw error.status === 401 ? new SessionEnded(ENDED) : error;
  });
  if (subjectOf(token) !== userId) throw new SessionEnded(SOMEBODY_ELSE);
  return token;
}

/** Rejects with `SessionEnded` if this user is not signed in any more. */
export async function confirm(userId) {
  const user = await current();
  if (user?.id !== userId) throw new SessionEnded(user ? SOMEBODY_ELSE : ENDED);
}

async function enter(path, credentials) {
  const answer = await call(path, clientRequest ? { ...credentials, oauth_query: clientRequest } : credentials);
  if (!answer.url) return answer.user;
  location.replace(answer.url); // to the consent, or back to the client
  return new Promise(() => {}); // this page ends here
}

/** What users may know of a client. */
export function clientNamed(id) {
  return call(`/oauth2/public-client?client_id=${encodeURIComponent(id)}`);
}

/** Allows or refuses the request of the client, and returns the URL that tells the client. */
export async function consent(accept) {
  return (await call("/oauth2/consent", { accept, oauth_query: clientRequest })).url;
}

// The backend verifies the signature.
function subjectOf(token) {
  return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).sub;
}

/** The message for the user if fetch has failed. */
export function unreachable(service) {
  if (!navigator.onLine) return "There was no connection.";
  return `The ${service} service cannot be reached. Try again in a moment.`;
}

async function call(path, body) {
  let response;
  try {
    response = await fetch(`/api/auth${path}`, {
      method: body ? "POST" : "GET",
      headers: body && { "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
    });
  } catch (cause) {
    throw Object.assign(new Error(unreachable("sign-in"), { cause }), { isOutage: true });
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  const failed = `The sign-in service failed (${response.status}). Try again in a moment.`;
  const error = new Error(answer?.error === "invalid_signature" ? REQUEST_ENDED : answer?.message || failed);
  throw Object.assign(error, { status: response.status, isOutage: OUTAGES.includes(response.status) });
}
