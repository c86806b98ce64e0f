// Serves Better Auth at /api/auth/, the metadata of its plugins at /.well-known/, and the page in public/. `node server.mjs --migrate` only migrates.

import { createServer } from "node:http";
import { toNodeHandler } from "better-auth/node";
import { createAuth, migrate } from "./auth.mjs";
import { StartError, readConfig } from "./config.mjs";
import { pageHandler } from "./page.mjs";

const MAX_BODY_BYTES = 64 * 1024; // Better Auth's Node adapter has no limit
const STOP_WITHIN_MS = 1000;

try {
  await start(readConfig());
} catch (error) {
  console.error(error instanceof StartError ? error.message : error);
  process.exit(1);
}

async function start(config) {
  const auth = createAuth(config.auth);
  const pool = auth.options.database;
  await reach(pool);
  await migrate(auth);
  if (process.argv.includes("--migrate")) return pool.end();

  const server = createServer(requestListener(auth, pageHandler(config)));
  await listen(server, config);
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => stop(server, pool));
  console.log(`Better Auth and the page: ${config.auth.baseURL}`);
}

async function reach(pool) {
  let database = "DATABASE_URL";
  try {
    const { host, port, database: name } = new pool.Client(pool.options); // the URL itself contains the password
    database = `${name} at ${host}:${port}`;
    await pool.query("select 1");
  } catch (error) {
    // If "localhost" refuses the connection, the error has a code but no message.
    throw new StartError(`The database cannot be reached (${database}): ${error.message || error.code}`);
  }
}

function listen(server, { host, port }) {
  return new Promise((resolve, reject) => {
    server.once("error", ({ code, message }) => {
      const why = code === "EADDRINUSE" ? "the port is taken. Choose another with FRONTEND_PORT." : message;
      reject(new StartError(`Cannot listen on ${host}:${port}: ${why}`));
    });
    server.listen(port, host, resolve);
  });
}

function stop(server, pool) {
  setTimeout(() => process.exit(0), STOP_WITHIN_MS).unref();
  server.close(() => pool.end().finally(() => process.exit(0)));
}

function requestListener(auth, servePage) {
  const serveAuth = toNodeHandler(auth);
  return async (request, response) => {
    try {
      const path = request.url.split("?")[0];
      if (path.startsWith("/api/auth/") || path.startsWith("/.well-known/")) await answerAuth(serveAuth, request, response);
      else if (path === "/healthz") await answerHealth(auth.options.database, response);
      else await servePage(path, request, response);
    } catch (error) {
      console.error(error);
      if (response.headersSent) response.destroy();
      else answer(response, 500, { message: "Internal server error" });
    }
  };
}

async function answerAuth(serveAuth, request, response) {
  // Without a Content-Length, the size is unknown before the body is read.
  const declared = request.headers["content-length"] ?? (request.headers["transfer-encoding"] ? Infinity : 0);
  if (Number(declared) > MAX_BODY_BYTES) return answer(response, 413, { message: "Request body is too large" });
  // There is no proxy in front, so do not trust an X-Forwarded-For of the caller.
  request.headers["x-forwarded-for"] = request.socket.remoteAddress;
  response.setHeader("Cache-Control", "no-store"); // Better Auth sends no Cache-Control, and /token returns a credential
  await serveAuth(request, response);
}

async function answerHealth(pool, response) {
  try {
    await pool.query("select 1");
    answer(response, 200, { status: "ok" });
  } catch (error) {
    console.error(`The database cannot be reached: ${error.message || error.code}`);
    answer(response, 503, { status: "database unreachable" });
  }
}

function answer(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
  response.end(JSON.stringify(body));
}
