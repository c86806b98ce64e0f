// One form with two modes: sign-in and sign-up.

import * as session from "./session.js";

const MODES = {
  signIn: {
    title: "Sign in",
    question: "No account yet?",
    other: "Create an account",
    password: "current-password",
    submit: session.signIn,
  },
  signUp: {
    title: "Create an account",
    question: "Have an account?",
    other: "Sign in",
    password: "new-password",
    submit: session.signUp,
  },
};

const view = document.getElementById("sign-in");
const form = document.getElementById("sign-in-form");
const reason = document.getElementById("sign-in-reason");
const alert = document.getElementById("sign-in-alert");
const submit = document.getElementById("sign-in-submit");

let mode = MODES.signIn;

/** Calls `signedIn(user)` after each sign-in or sign-up. */
export function setUpSignIn(signedIn) {
  document.getElementById("switch-mode").addEventListener("click", () => {
    alert.textContent = "";
    switchTo(mode === MODES.signIn ? MODES.signUp : MODES.signIn);
    form.elements[mode === MODES.signUp ? "name" : "email"].focus();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (submit.disabled) return;
    alert.textContent = "";
    submit.disabled = true;
    try {
      const user = await mode.submit(Object.fromEntries(new FormData(form)));
      hideSignIn();
      signedIn(user);
    } catch (error) {
      alert.textContent = error.message;
    } finally {
      submit.disabled = false;
    }
  });
}

/** `why`: the reason, if the user did not open the form. */
export function showSignIn(why = "") {
  switchTo(MODES.signIn);
  view.hidden = false;
  reason.textContent = why;
  document.title = "Sign in – Support";
  form.elements.email.focus();
}

function hideSignIn() {
  form.reset(); // remove the password from the page
  view.hidden = true;
}

function switchTo(chosen) {
  mode = chosen;
  const newcomer = mode === MODES.signUp;
  document.getElementById("sign-in-title").textContent = mode.title;
  document.getElementById("sign-in-name").hidden = !newcomer;
  document.getElementById("password-hint").hidden = !newcomer;
  document.getElementById("switch-question").textContent = mode.question;
  document.getElementById("switch-mode").textContent = mode.other;
  form.elements.name.disabled = !newcomer;
  form.elements.password.autocomplete = mode.password;
  submit.textContent = mode.title;
}
