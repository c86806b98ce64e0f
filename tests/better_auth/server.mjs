// A real Better Auth as some other team runs it: version, adapter, database, plugins and options are
// the environment's. frontend/ is how this project runs its own.

import { createServer } from "node:http";
import { connect } from "./database.mjs";

const env = process.env;
const { BETTER_AUTH_VERSION = "newest", ADAPTER = "kysely", SECONDARY_STORAGE_URL } = env;
const PACKAGES = { newest: "better-auth", 1.4: "better-auth-1.4", oldest: "better-auth-oldest" };
const better_auth = PACKAGES[BETTER_AUTH_VERSION];

const { betterAuth } = await import(better_auth);
const { toNodeHandler } = await import(`${better_auth}/node`);
const available = await import(`${better_auth}/plugins`);

// By their ids, each with its own options: {"jwt": {"jwks": {"jwksPath": "/keys"}}, "admin": {}}.
const plugins = json("PLUGINS", { jwt: {} });
const PLUGINS = {
  admin: available.admin,
  anonymous: available.anonymous,
  bearer: available.bearer,
  jwt,
  mcp: await oauth("mcp", "mcp"),
  "oauth-provider": await oauth("oauth-provider", "oauthProvider"),
  organization: available.organization,
  "two-factor": available.twoFactor,
};
const options = {
  baseURL: env.BETTER_AUTH_URL,
  secret: env.BETTER_AUTH_SECRET,
  emailAndPassword: { enabled: true },
  telemetry: { enabled: false },
  plugins: Object.entries(plugins).map(([id, given]) => PLUGINS[id](given)),
  ...renamed("user", "session"),
  ...json("OPTIONS", {}), // of betterAuth() itself: {"advanced": {"cookiePrefix": "acme"}}
};
if (plugins.mcp) {
  options.hooks = { before: (await import("../../frontend/oauth.mjs")).registerLocalClientsAsNative };
}
if (SECONDARY_STORAGE_URL) options.secondaryStorage = await secondaryStorage(SECONDARY_STORAGE_URL);
const { database, migrate } = await connect({ adapter: ADAPTER, url: env.DATABASE_URL, plural: env.PLURAL, options, better_auth });
const auth = betterAuth({ ...options, database });
await migrate(auth.options);
await serve();

function json(name, fallback) {
  return env[name] ? JSON.parse(env[name]) : fallback;
}

// CLAIMS=default: Better Auth's own payload, the whole user and no session. Otherwise the one that the
// README asks for, with JSON laid over it: {"sid": "abc"}.
function jwt(given) {
  const claims = env.CLAIMS === "default" ? undefined : json("CLAIMS", {});
  const definePayload = ({ user, session }) => ({
    email: user.email, emailVerified: user.emailVerified, name: user.name, sid: session.id, ...claims,
  });
  return available.jwt({
    ...given,
    jwt: { ...(claims && { definePayload }), ...given.jwt },
    schema: renamed("jwks"),
  });
}

// An authorization server with its pages at /login and /consent. Clients may register themselves. The packages
// need the newest Better Auth, and mcp() needs a resource: {"mcp": {"resource": "https://api.example.com/mcp"}}.
async function oauth(id, name) {
  if (!plugins[id]) return undefined;
  const plugin = (await import(`@better-auth/${id}`))[name];
  return (given) =>
    plugin({
      loginPage: "/login",
      consentPage: "/consent",
      allowDynamicClientRegistration: true,
      allowUnauthenticatedClientRegistration: true,
      silenceWarnings: { oauthAuthServerConfig: true, openidConfig: true },
      ...given,
    });
}

// Tables and columns of other names, in the words of the backend's own settings:
// BETTER_AUTH_TABLES=user=people and BETTER_AUTH_COLUMNS=user.emailVerified=verified.
function renamed(...models) {
  const pairs = (name) => (env[name] || "").split(",").filter(Boolean).map((pair) => pair.split("="));
  const schema = Object.fromEntries(models.map((model) => [model, { fields: {} }]));
  for (const [model, modelName] of pairs("BETTER_AUTH_TABLES")) if (schema[model]) schema[model].modelName = modelName;
  for (const [name, column] of pairs("BETTER_AUTH_COLUMNS")) {
    const [model, field] = name.split(".");
    if (schema[model]) schema[model].fields[field] = column;
  }
  return schema;
}

async function secondaryStorage(url) {
  const { Redis } = await import("ioredis");
  const { redisStorage } = await import("@better-auth/redis-storage");
  const keyPrefix = env.SECONDARY_STORAGE_PREFIX; // "better-auth:" unless given; it may be empty
  return redisStorage({ client: new Redis(url), ...(keyPrefix !== undefined && { keyPrefix }) });
}

async function serve() {
  const serveAuth = toNodeHandler(auth);
  const server = createServer((request, response) => {
    if (request.url === "/healthz") return response.end("ok");
    request.headers["x-forwarded-for"] = request.socket.remoteAddress;
    return serveAuth(request, response);
  });
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => process.exit(0));
  server.listen(Number(env.PORT), "127.0.0.1");
}
