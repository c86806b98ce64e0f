// All environment variables of this server, with their defaults. No other file reads process.env.

// The suggestions on an empty page, if PAGE_SUGGESTIONS is not set. The local responder answers the first three.
const SUGGESTIONS_WITHOUT_MODEL = ["What can you do?", "What is my user id?", "List my conversations"];
const SUGGESTIONS = ["What can you help me with?", "Help me write a message", "Explain something to me"];
const JWT_ALGORITHMS = ["EdDSA", "ES256", "ES512", "PS256", "RS256"];

/** The reason why the server does not start, for the user at the terminal. It is shown without a stack trace. */
export class StartError extends Error {}

export function readConfig(env = process.env) {
  const port = wholeNumber(env, "FRONTEND_PORT", 3000);
  if (port < 1 || port > 65535) throw new StartError("FRONTEND_PORT should be a port between 1 and 65535.");
  const baseURL = httpAddress(env, "BETTER_AUTH_URL", `http://localhost:${port}`);
  const chatkitUrl = httpAddress(env, "CHATKIT_URL", "http://localhost:8000/support/chatkit").href;
  return {
    port,
    host: env.HOST || "127.0.0.1",
    chatkitUrl,
    page: {
      suggestions: suggestions(env, "PAGE_SUGGESTIONS"),
      // The backend reads the same three variables. Its own checks decide; the page only offers them.
      models: [...new Set([env.SUPPORT_MODEL, ...list(env, "SUPPORT_MODELS")])].filter(Boolean),
      dictation: Boolean(env.SUPPORT_TRANSCRIPTION_MODEL),
    },
    auth: {
      databaseUrl: databaseAddress(env, "DATABASE_URL"),
      baseURL: baseURL.origin,
      secret: required(env, "BETTER_AUTH_SECRET", "Write 32 random characters or more: openssl rand -base64 32"),
      trustedOrigins: originsOf(baseURL, port),
      jwtAlgorithm: jwtAlgorithm(env, "BETTER_AUTH_JWT_ALG"),
      jwtExpiration: duration(env, "BETTER_AUTH_JWT_EXPIRATION"),
      jwtRotationSeconds: wholeNumber(env, "BETTER_AUTH_JWT_ROTATION_SECONDS", undefined),
      plugins: list(env, "BETTER_AUTH_PLUGINS"),
      oauth: {
        // Not parsed: the token must name exactly the text that the backend reads.
        mcpUrl: env.SUPPORT_MCP_URL || new URL("mcp", chatkitUrl).href,
        toolScopes: list(env, "OAUTH_TOOL_SCOPES"),
      },
      changeEmail: flag(env, "BETTER_AUTH_CHANGE_EMAIL"),
      deleteUser: flag(env, "BETTER_AUTH_DELETE_USER"),
    },
  };
}

// On a developer's machine, the page may be opened under both names. Elsewhere only its own origin is trusted,
// because a page on a visitor's localhost is not ours.
function originsOf(baseURL, port) {
  if (!["localhost", "127.0.0.1"].includes(baseURL.hostname)) return [baseURL.origin];
  return [...new Set([baseURL.origin, `http://localhost:${port}`, `http://127.0.0.1:${port}`])];
}

function required(env, name, hint) {
  if (!env[name]) throw new StartError(`${name} is missing. ${hint}`);
  return env[name];
}

function databaseAddress(env, name) {
  const hint = "Write a PostgreSQL address, such as postgresql://user:password@localhost:5432/name";
  const url = required(env, name, hint);
  if (/^(postgres|postgresql|psql|pgsql):\/\//.test(url)) return url; // the Django backend accepts these schemes too
  throw new StartError(`${name} is not a PostgreSQL address. ${hint}`);
}

function httpAddress(env, name, fallback) {
  const text = env[name] || fallback;
  if (/^https?:/i.test(text) && URL.canParse(text)) return new URL(text);
  throw new StartError(`${name} should be a whole address, such as ${fallback}`);
}

function wholeNumber(env, name, fallback) {
  if (!env[name]) return fallback;
  if (/^\d{1,9}$/.test(env[name])) return Number(env[name]);
  throw new StartError(`${name} should be a whole number.`);
}

// With another algorithm, Better Auth would start and then fail at every token.
function jwtAlgorithm(env, name) {
  if (!env[name] || JWT_ALGORITHMS.includes(env[name])) return env[name] || undefined;
  throw new StartError(`${name} should be one of ${JWT_ALGORITHMS.join(", ")}.`);
}

// Better Auth reads a number without a unit as a point in time: 3600 would be in 1970.
function duration(env, name) {
  if (!env[name]) return undefined;
  if (/^\d+ ?[a-z]+$/i.test(env[name])) return env[name];
  throw new StartError(`${name} should have a unit, such as 15m or 1h.`);
}

function suggestions(env, name) {
  if (!env[name]) return env.SUPPORT_MODEL ? SUGGESTIONS : SUGGESTIONS_WITHOUT_MODEL;
  try {
    const texts = JSON.parse(env[name]);
    if (Array.isArray(texts) && texts.every((text) => typeof text === "string" && text.trim())) return texts;
  } catch {} // the same hint for both mistakes
  throw new StartError(`${name} should be a JSON list of texts, such as ["Where is my parcel?"].`);
}

function flag(env, name) {
  return ["1", "true", "yes", "on"].includes((env[name] || "").toLowerCase());
}

function list(env, name) {
  return (env[name] || "").split(",").map((entry) => entry.trim()).filter(Boolean);
}
