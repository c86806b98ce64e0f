"use client";
import { useState } from "react";
import { SignIn } from "@/components/sign-in";
import { SupportChat } from "@/components/support-chat";
import { authClient } from "@/lib/auth-client";

export default function Page() {
  const { data, isPending } = authClient.useSession();
  const [isKnown, setIsKnown] = useState(false);
  if (!isPending && !isKnown) setIsKnown(true); // later, useSession() asks again while the form is in use

  if (data) {
    return (
      <main>
        <p>
          Signed in as {data.user.email} <button onClick={() => authClient.signOut()}>Sign out</button>
        </p>
        <SupportChat key={data.user.id} userId={data.user.id} />
      </main>
    );
  }
  return <main>{isKnown ? <SignIn /> : <p role="status">Loading …</p>}</main>;
}
