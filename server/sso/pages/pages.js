"use strict";

// Everything works without this file: it shows passwords, sends forms once, and offers passkeys.

for (const box of document.querySelectorAll(".secret")) {
  const input = box.querySelector("input");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Show";
  button.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-label", "Show the password");
  button.addEventListener("click", () => {
    const isShown = input.type === "text";
    input.type = isShown ? "password" : "text";
    button.textContent = isShown ? "Show" : "Hide";
    button.setAttribute("aria-pressed", String(!isShown));
  });
  box.append(button);
}

for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) {
      button.disabled = true;
    }
  });
}

window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button")) {
    button.disabled = false;
  }
});

function tell(text) {
  const paragraph = document.createElement("p");
  paragraph.textContent = text;
  document.getElementById("message").replaceChildren(paragraph);
}

const passkey = document.getElementById("passkey");

async function usePasskey() {
  const answer = await fetch(passkey.dataset.options, {
    method: "POST",
    body: new URLSearchParams(new FormData(passkey)),
  });
  if (!answer.ok) {
    throw new Error(`status ${answer.status}`);
  }
  const options = PublicKeyCredential.parseRequestOptionsFromJSON(await answer.json());
  const credential = await navigator.credentials.get({ publicKey: options });
  passkey.elements.credential.value = JSON.stringify(credential.toJSON());
  passkey.submit();
}

if (passkey && window.PublicKeyCredential && PublicKeyCredential.parseRequestOptionsFromJSON) {
  passkey.hidden = false;
  passkey.addEventListener("submit", (event) => {
    event.preventDefault();
    usePasskey().catch(() => tell("The passkey could not be used. Try again, or log in with your password."));
  });
}
