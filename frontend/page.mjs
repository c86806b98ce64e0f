// Serves the files in public/, and the configuration of the page.

import { readFile, readdir } from "node:fs/promises";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PUBLIC = fileURLToPath(new URL("public/", import.meta.url));
const CONTENT_TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

export function pageHandler({ chatkitUrl }) {
  const headers = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": contentSecurityPolicy(chatkitUrl),
    // With no-referrer, browsers would send "Origin: null", and Better Auth refuses that.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
  };

  return async function servePage(path, request, response) {
    const send = (status, type, body) => {
      response.writeHead(status, { ...headers, "Content-Type": type, "Content-Length": Buffer.byteLength(body) });
      response.end(request.method === "HEAD" ? undefined : body);
    };

    if (!["GET", "HEAD"].includes(request.method)) {
      response.setHeader("Allow", "GET, HEAD");
      return send(405, "text/plain", "Method not allowed\n");
    }
    if (path === "/config.json") return send(200, "application/json", JSON.stringify({ chatkitUrl }));

    // Open only names that the folder contains. So no spelling of ".." leads out of it.
    const name = path === "/" ? "index.html" : path.slice(1);
    const type = CONTENT_TYPES[extname(name)];
    if (!type || !(await readdir(PUBLIC)).includes(name)) return send(404, "text/plain", "Not found\n");
    send(200, type, await readFile(join(PUBLIC, name)));
  };
}

function contentSecurityPolicy(chatkitUrl) {
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    `img-src 'self' ${new URL(chatkitUrl).origin}`, // attached images
    `connect-src 'self' ${new URL(chatkitUrl).origin}`,
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}
