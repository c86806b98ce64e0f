// The configuration of Better Auth: e-mail and password, and a JWT for the Django backend.

import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { admin } from "better-auth/plugins/admin";
import { jwt } from "better-auth/plugins/jwt";
import pg from "pg";
import { StartError } from "./config.mjs";
import { authorizationServer, registerLocalClientsAsNative } from "./oauth.mjs";

// The values of BETTER_AUTH_PLUGINS. The plugin jwt is always on.
const PLUGINS = { admin, "oauth-provider": authorizationServer };

export function createAuth({
  databaseUrl,
  baseURL,
  secret,
  trustedOrigins,
  jwtAlgorithm = "EdDSA", // or ES256, ES512, PS256, RS256; an existing key keeps its algorithm
  jwtExpiration = "15m",
  jwtRotationSeconds, // undefined: no rotation
  plugins = [],
  oauth = {}, // for the plugin oauth-provider
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
      // This server sends no mail. So an unverified address changes at once, and a verified one cannot change.
      changeEmail: { enabled: changeEmail, updateEmailWithoutVerification: true },
      deleteUser: { enabled: deleteUser },
    },
    plugins: [
      jwt({
        jwks: { keyPairConfig: { alg: jwtAlgorithm }, rotationInterval: jwtRotationSeconds },
        jwt: { expirationTime: jwtExpiration, definePayload },
      }),
      ...plugins.map((name) => pluginNamed(name, oauth)),
    ],
    hooks: plugins.includes("oauth-provider") ? { before: registerLocalClientsAsNative } : {},
    telemetry: { enabled: false },
    // Rate limits keep Better Auth's default: on with NODE_ENV=production, otherwise off.
  });
}

// Few claims keep the Authorization header short. The default payload is the whole user with the picture. `sid`
// is the id of the session's row. It must not be `session.token`, because that token is a login. With `sid`, a
// sign-out ends this token at once.
function definePayload({ user, session }) {
  return { email: user.email, emailVerified: user.emailVerified, name: user.name, sid: session.id };
}

function pluginNamed(name, oauth) {
  if (Object.hasOwn(PLUGINS, name)) return PLUGINS[name](name === "oauth-provider" ? oauth : undefined);
  throw new StartError(`BETTER_AUTH_PLUGINS: "${name}" is unknown here. Known: ${Object.keys(PLUGINS).join(", ")}.`);
}

function createPool(connectionString) {
  const pool = new pg.Pool({ connectionString, connectionTimeoutMillis: 5000 });
  // Without this listener, a lost idle connection would end the process.
  pool.on("error", (error) => console.error(`Lost an idle database connection: ${error.message}`));
  return pool;
}

/** Runs Better Auth's migrations. Does nothing if the tables are up to date. */
export async function migrate(auth) {
  const { runMigrations } = await getMigrations(auth.options);
  await runMigrations();
}
