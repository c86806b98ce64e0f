// Prisma 7 itself, with its driver adapter. In place of the client that `prisma generate` writes stands
// what is particular in it, prisma/generated.json: the CLI is 250 MB and fetches engines from elsewhere.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { PrismaPg } from "@prisma/adapter-pg";

const require = createRequire(import.meta.url);
const { getPrismaClient } = require("@prisma/client/runtime/client");
const COMPILER = "@prisma/client/runtime/query_compiler_small_bg.postgresql";

export async function connect({ pool, better_auth }) {
  const { prismaAdapter } = await import(`${better_auth}/adapters/prisma`);
  const PrismaClient = getPrismaClient({
    ...JSON.parse(file("generated.json")),
    inlineSchema: file("schema.prisma"),
    compilerWasm: {
      getRuntime: async () => require(`${COMPILER}.js`),
      getQueryCompilerWasmModule: async () =>
        new WebAssembly.Module(Buffer.from(require(`${COMPILER}.wasm-base64.js`).wasm, "base64")),
      importName: "./query_compiler_small_bg.js",
    },
  });
  const client = new PrismaClient({ adapter: new PrismaPg(pool) });
  return {
    database: prismaAdapter(client, { provider: "postgresql" }),
    create: () => pool.query(file("migration.sql")),
  };
}

function file(name) {
  return readFileSync(new URL(`prisma/${name}`, import.meta.url), "utf8");
}
