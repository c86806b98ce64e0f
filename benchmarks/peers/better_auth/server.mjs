// Better Auth's getSession with the session cookie. There is no ChatKit, so every answer is an empty list.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(new URL("../../../frontend/", import.meta.url)); // it uses the packages of frontend/
const packaged = async (name) => (await import(pathToFileURL(require.resolve(name)))) ;
const { betterAuth } = await packaged("better-auth");
const { default: pg } = await packaged("pg");

const auth = betterAuth({
  baseURL: process.env.BETTER_AUTH_URL,
  secret: process.env.BETTER_AUTH_SECRET,
  database: new pg.Pool({ connectionString: process.env.DATABASE_URL }),
  telemetry: { enabled: false },
});

createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const session = await auth.api.getSession({ headers: new Headers(request.headers) }).catch(() => null);
  response.writeHead(session ? 200 : 401, { "content-type": "application/json" });
  response.end(JSON.stringify(session ? { data: [], has_more: false } : { error: "Not authenticated" }));
}).listen(Number(process.env.PORT), "127.0.0.1");
