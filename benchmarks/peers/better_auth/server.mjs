// Better Auth's own way in Node: whose session cookie is it? No ChatKit, so only threads.list is answered.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(new URL("../../../frontend/", import.meta.url)); // whose packages it borrows
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
