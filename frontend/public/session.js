// Who is signed in, and the token that says so: Better Auth over fetch. The session is an HttpOnly cookie that
// scripts cannot read. The token lives in memory alone, so a closed tab leaves nothing behind.

const RENEW_BEFORE_MS = 60_000;

/** The reader has to sign in again; the message is for them. */
export class SessionEnded extends Error {}

let user = null;
let held = { token: "", goodUntil: 0 };
let pending = null; // a promise of `held`: callers at the same moment share one request

export async function current() {
  user = (await call("/get-session"))?.user ?? null;
  return user;
}

export function signUp({ name, email, password }) {
  return enter("/sign-up/email", { name, email, password });
}

export function signIn({ email, password }) {
  return enter("/sign-in/email", { email, password });
}

export async function signOut() {
  await call("/sign-out", {});
  forget();
}

export function forget() {
  user = null;
  held = { token: "", goodUntil: 0 };
  pending = null;
}

/** The bearer for the backend; `renew` asks for another one although the one we hold looks good. */
export async function token({ renew = false } = {}) {
  if (!renew && Date.now() < held.goodUntil) return held.token;
  const request = (pending ??= fetchToken());
  try {
    const fresh = await request;
    if (pending === request) held = fresh; // else somebody signed out while it was on its way
    return fresh.token;
  } finally {
    if (pending === request) pending = null;
  }
}

async function enter(path, credentials) {
  forget();
  user = (await call(path, credentials)).user;
  return user;
}

async function fetchToken() {
  const owner = user?.id;
  const { token } = await call("/token").catch((error) => {
    throw error.status === 401 ? new SessionEnded("Your session has ended. Sign in again to go on.") : error;
  });
  const { sub, iat, exp } = claimsOf(token);
  // The cookie is the whole browser's: another tab may have signed in somebody else.
  if (sub !== owner) throw new SessionEnded("Somebody else has signed in with this browser. Sign in again to go on.");
  // Counted from now: this computer's clock need not agree with the server's.
  return { token, goodUntil: Date.now() + (exp - iat) * 1000 - RENEW_BEFORE_MS };
}

// Read for its dates only; checking the signature is the backend's work.
function claimsOf(token) {
  return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
}

/** What to tell the reader when fetch itself has failed. */
export function unreachable(service) {
  if (!navigator.onLine) return "You are offline. Try again when you are connected.";
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
    throw new Error(unreachable("sign-in"), { cause });
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  const error = new Error(answer?.message || `The sign-in service failed (${response.status}). Try again in a moment.`);
  throw Object.assign(error, { status: response.status });
}
