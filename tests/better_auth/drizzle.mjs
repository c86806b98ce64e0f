// Drizzle's tables as `auth generate` writes them: snake_case columns, timestamps without a zone.

import { drizzle } from "drizzle-orm/node-postgres";
import { boolean, getTableConfig, integer, pgTable, serial, text, timestamp, uuid } from "drizzle-orm/pg-core";

const user = { name: required, email: unique, emailVerified: flag, image: optional, createdAt: created, updatedAt: created };
const session = {
  expiresAt: moment, token: unique, createdAt: created, updatedAt: moment, ipAddress: optional, userAgent: optional, userId: reference,
};
const account = {
  accountId: required, providerId: required, userId: reference, accessToken: optional, refreshToken: optional, idToken: optional,
  accessTokenExpiresAt: later, refreshTokenExpiresAt: later, scope: optional, password: optional, createdAt: created, updatedAt: moment,
};
const verification = { identifier: required, value: required, expiresAt: moment, createdAt: created, updatedAt: created };
const jwks = { publicKey: required, privateKey: required, createdAt: moment, expiresAt: later, alg: optional, crv: optional };
const DEFAULTS = { PgTimestamp: "now()", PgBoolean: "false", PgUUID: "gen_random_uuid()" };
const OF_ADMIN = {
  user: { role: optional, banned: flag, banReason: optional, banExpires: later },
  session: { impersonatedBy: optional },
};

export async function connect({ pool, plural, options, better_auth }) {
  const { drizzleAdapter } = await import(`${better_auth}/adapters/drizzle`);
  const hasAdmin = options.plugins.some(({ id }) => id === "admin");
  const kind = options.advanced?.database?.generateId;
  const models = { user, session, account, verification, jwks };
  const schema = {};
  for (const [model, fields] of Object.entries(models)) {
    const all = { ...fields, ...(hasAdmin && OF_ADMIN[model]) };
    const columns = Object.entries(all).map(([field, column]) => [field, column(snake(field), kind)]);
    const name = plural ? `${model}s` : model;
    schema[name] = pgTable(name, { id: id(kind), ...Object.fromEntries(columns) });
  }
  const db = drizzle(pool, { schema });
  return {
    database: drizzleAdapter(db, { provider: "pg", schema, usePlural: Boolean(plural) }),
    create: () => pool.query(Object.values(schema).map(ddl).join("\n")),
  };
}

// What `drizzle-kit push` makes of these tables, without its foreign keys and indexes.
function ddl(table) {
  const { name, columns } = getTableConfig(table);
  const written = columns.map((column) => {
    const has = [column.primary && "PRIMARY KEY", column.notNull && "NOT NULL", column.isUnique && "UNIQUE"];
    const fallback = column.hasDefault && DEFAULTS[column.columnType];
    return [`"${column.name}"`, column.getSQLType(), ...has, fallback && `DEFAULT ${fallback}`].filter(Boolean).join(" ");
  });
  return `CREATE TABLE IF NOT EXISTS "${name}" (${written.join(", ")});`;
}

function id(kind) {
  if (kind === "serial") return serial("id").primaryKey();
  if (kind === "uuid") return uuid("id").defaultRandom().primaryKey();
  return text("id").primaryKey();
}

function reference(name, kind) {
  if (kind === "serial") return integer(name).notNull();
  if (kind === "uuid") return uuid(name).notNull();
  return required(name);
}

function required(name) { return text(name).notNull(); }
function optional(name) { return text(name); }
function unique(name) { return required(name).unique(); }
function flag(name) { return boolean(name).default(false); }
function moment(name) { return timestamp(name).notNull(); }
function later(name) { return timestamp(name); }
function created(name) { return timestamp(name).defaultNow().notNull(); }
function snake(field) { return field.replace(/[A-Z]/g, (capital) => `_${capital.toLowerCase()}`); }
