import { betterAuth } from "better-auth";
import { jwt } from "better-auth/plugins";
import { Pool } from "pg";

const pool = new Pool({ connectionString: process.env.DATABASE_URL });
pool.on("error", (error) => console.error("Lost an idle database connection:", error.message));

// Better Auth itself reads BETTER_AUTH_URL and BETTER_AUTH_SECRET.
export const auth = betterAuth({
  database: pool,
  emailAndPassword: { enabled: true },
  plugins: [
    jwt({
      jwt: {
        definePayload: ({ user, session }) => ({
          email: user.email,
          emailVerified: user.emailVerified,
          name: user.name,
          sid: session.id, // the backend refuses the token after this session has ended
        }),
      },
    }),
  ],
});
