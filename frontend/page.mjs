// Serves the files in public/, three libraries from node_modules/, and the configuration of the page.

import { readFile, readdir } from "node:fs/promises";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

const PUBLIC = fileURLToPath(new URL("public/", import.meta.url));
const PACKAGES = fileURLToPath(new URL("node_modules/", import.meta.url));
const LIBRARIES = {
  "libraries/marked.js": "marked/lib/marked.esm.js", // parses Markdown
  "libraries/purify.js": "dompurify/dist/purify.min.js", // removes dangerous HTML
  "libraries/remend.js": "remend/dist/index.js", // completes the Markdown of an unfinished answer
};
const CONTENT_TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};
const VARIES = { Vary: "Accept-Encoding" };

const compress = promisify(gzip);

export function pageHandler({ chatkitUrl, page }) {
  const headers = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": contentSecurityPolicy(chatkitUrl),
    // With no-referrer, browsers would send "Origin: null", and Better Auth refuses that.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
  };

  return async function servePage(path, request, response) {
    const send = (status, type, body, encoding = {}) => {
      const length = { "Content-Length": Buffer.byteLength(body) };
      response.writeHead(status, { ...headers, "Content-Type": type, ...length, ...encoding });
      response.end(request.method === "HEAD" ? undefined : body);
    };

    if (!["GET", "HEAD"].includes(request.method)) {
      response.setHeader("Allow", "GET, HEAD");
      return send(405, "text/plain", "Method not allowed\n");
    }
    if (path === "/config.json") return send(200, "application/json", JSON.stringify({ chatkitUrl, ...page }));

    const name = path === "/" ? "index.html" : path.slice(1);
    const type = CONTENT_TYPES[extname(name)];
    const file = type && (await fileNamed(name));
    if (!file) return send(404, "text/plain", "Not found\n");
    if (name === "index.html") response.setHeader("Link", await modulePreloads());
    const content = await readFile(file);
    if (!/\bgzip\b/.test(request.headers["accept-encoding"])) return send(200, type, content, VARIES);
    send(200, type, await compress(content), { ...VARIES, "Content-Encoding": "gzip" });
  };
}

// Open only names that the folder contains. So no spelling of ".." leads out of it.
async function fileNamed(name) {
  if (Object.hasOwn(LIBRARIES, name)) return join(PACKAGES, LIBRARIES[name]);
  return (await readdir(PUBLIC, { recursive: true })).includes(name) ? join(PUBLIC, name) : null;
}

// The browser would find most modules only after it has read others.
async function modulePreloads() {
  const scripts = [...(await readdir(PUBLIC, { recursive: true })), ...Object.keys(LIBRARIES)].filter(isScript);
  return scripts.map((name) => `</${name}>; rel=modulepreload`).join(", ");
}

function isScript(name) {
  return extname(name) === ".js";
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
