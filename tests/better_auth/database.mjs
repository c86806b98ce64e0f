// Where that Better Auth keeps its tables: which adapter, which database, which column types.

/** The ``database`` option, and what makes its tables. Before them come the tables, after them the server. */
export async function connect({ adapter, url, plural, options, better_auth }) {
  if (adapter === "kysely") {
    const isPostgres = /^postgres(ql)?:/.test(url);
    return { database: isPostgres ? await pool(url) : await sqlite(url), migrate: migrations(better_auth) };
  }
  const { database, create } = await (await import(`./${adapter}.mjs`)).connect({ pool: await pool(url), plural, options, better_auth });
  return { database, migrate: create };
}

async function pool(connectionString) {
  const { default: pg } = await import("pg");
  return new pg.Pool({ connectionString });
}

// libsql is SQLite with better-sqlite3's interface, and comes built from the registry.
async function sqlite(url) {
  const { default: Database } = await import("libsql");
  const { SqliteDialect } = await import("kysely");
  return { dialect: new SqliteDialect({ database: new Database(url.replace(/^sqlite:\/\/\//, "")) }), type: "sqlite" };
}

function migrations(better_auth) {
  return async (options) => {
    const { getMigrations } = await import(`${better_auth}/db/migration`).catch(() => import(`${better_auth}/db`));
    const { runMigrations } = await getMigrations(options);
    await runMigrations();
  };
}
