"use client";
import { type FormEvent, useState } from "react";
import { authClient } from "@/lib/auth-client";

export function SignIn() {
  const [isNew, setIsNew] = useState(false);
  const [problem, setProblem] = useState("");
  const [isSending, setIsSending] = useState(false);

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const valueOf = (field: string) => String(form.get(field) ?? "");
    const [email, password] = [valueOf("email"), valueOf("password")];
    setProblem("");
    setIsSending(true);
    try {
      const { error } = isNew
        ? await authClient.signUp.email({ name: valueOf("name"), email, password })
        : await authClient.signIn.email({ email, password });
      if (error) setProblem(error.message || `This did not work (${error.status}). Try again in a moment.`);
    } catch {
      setProblem("Better Auth cannot be reached. Try again in a moment.");
    }
    setIsSending(false);
  }

  return (
    <form onSubmit={submit}>
      <h1>{isNew ? "Create an account" : "Sign in"}</h1>
      {isNew && (
        <label>
          Name <input name="name" autoComplete="name" required />
        </label>
      )}
      <label>
        E-mail <input name="email" type="email" autoComplete="email" required />
      </label>
      <label>
        Password{" "}
        <input
          name="password"
          type="password"
          autoComplete={isNew ? "new-password" : "current-password"}
          minLength={8}
          required
        />
      </label>
      <button disabled={isSending}>{isNew ? "Sign up" : "Sign in"}</button>
      <p role="alert">{problem}</p>
      <button type="button" onClick={() => setIsNew(!isNew)}>
        {isNew ? "I have an account" : "Create an account"}
      </button>
    </form>
  );
}
