// Better Auth as this project uses it: e-mail and password, and a JWT for the Django backend.

import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { admin } from "better-auth/plugins/admin";
import { jwt } from "better-auth/plugins/jwt";
import pg from "pg";
import { StartError } from "./config.mjs";

// What BETTER_AUTH_PLUGINS may name, beside jwt, which is always there.
const PLUGINS = { admin };

export function createAuth({
  databaseUrl,
  baseURL,
  secret,
  trustedOrigins,
  jwtAlgorithm = "EdDSA", // or ES256, ES512, PS256, RS256; a key that exists keeps its own
  jwtExpiration = "15m",
  jwtRotationSeconds, // undefined: the signing key is kept
  plugins = [],
  changeEmail = false,
  deleteUser = false,
}) {
  return betterAuth({
    baseURL,
    secret,
    trustedOrigins,
    database: createPool(databaseUrl),
    emailAndPassword: { enabled: true },
    user: {
      // There is no mail here: an address that was never verified changes at once, a verified one cannot.
      changeEmail: { enabled: changeEmail, updateEmailWithoutVerification: true },
      deleteUser: { enabled: deleteUser },
    },
    plugins: [
      jwt({
        jwks: { keyPairConfig: { alg: jwtAlgorithm }, rotationInterval: jwtRotationSeconds },
        jwt: { expirationTime: jwtExpiration, definePayload },
      }),
      ...plugins.map(pluginNamed),
    ],
    telemetry: { enabled: false },
    // Rate limits stay as Better Auth sets them: on under NODE_ENV=production, off elsewhere.
  });
}

// Few claims keep the header short; the default payload is the whole user, picture included. `sid` is the
// row's id, never `session.token`, which is itself a login. With it a sign-out ends this token at once.
function definePayload({ user, session }) {
  return { email: user.email, emailVerified: user.emailVerified, name: user.name, sid: session.id };
}

function pluginNamed(name) {
  if (Object.hasOwn(PLUGINS, name)) return PLUGINS[name]();
  throw new StartError(`BETTER_AUTH_PLUGINS: "${name}" is unknown here. Known: ${Object.keys(PLUGINS).join(", ")}.`);
}

function createPool(connectionString) {
  const pool = new pg.Pool({ connectionString, connectionTimeoutMillis: 5000 });
  // Without a listener a connection that breaks while idle would end the process.
  pool.on("error", (error) => console.error(`Lost an idle database connection: ${error.message}`));
  return pool;
}

/** Better Auth's own migrations; nothing happens when the tables are up to date. */
export async function migrate(auth) {
  const { runMigrations } = await getMigrations(auth.options);
  await runMigrations();
}
