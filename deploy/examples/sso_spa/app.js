// A page that uses the REST API of Single Sign-On: no framework, nothing from elsewhere.
//
// The token of the session is kept for as long as the tab is open, and goes into the header Authorization: never into a URL.

const BASE = "/zato/sso/";
const { app: APP } = await (await fetch("config.json")).json();
const SECOND_FACTOR_MISSING = "E005008", STEP_UP = "E005010", MUST_ENROL = "E005011", NO_SESSION = "E007001";
const WHY = {
  E001001: "This user name cannot be taken.",
  E001002: "This user name is taken.",
  E001003: "This user name is too long.",
  E001004: "A user name has no spaces.",
  E002001: "This e-mail address cannot be taken.",
  E002002: "This e-mail address belongs to another account.",
  E003001: "Choose another password: this one is refused.",
  E003002: "Choose a longer password.",
  E003003: "Choose a shorter password.",
  E003004: "Your password has expired: ask for a new one below.",
  E003007: "Your password must be changed: ask for a new one below.",
  E003008: "Choose a password that is harder to guess.",
  E003009: "Choose another password: this one is among those that are tried first.",
  E005001: "That did not work. Is everything spelled right?",
  E005002: "The account is locked.",
  E005003: "Confirm your e-mail address first.",
  E005004: "Somebody has to approve the account first. You get an e-mail then.",
  E005006: "This code does not exist, or it is too old.",
  E005007: "You have confirmed already. Log in!",
  E005008: "Enter a code of your authenticator, too.",
  E005009: "Too many attempts: wait a little.",
  E010001: "This code does not exist, it was used, or it is too old.",
  E011001: "That is not right. Is the code of this moment?",
  E011002: "That is not set up.",
};

const $ = (selector) => document.querySelector(selector);
let ust = sessionStorage.getItem("ust") || "";
let user = null;

// Calls

class Refused extends Error {
  constructor(codes) {
    super(codes.map((code) => WHY[code] || `Refused (${code}).`).join(" "));
    this.codes = codes;
  }
}

function keep(token) {
  ust = token;
  sessionStorage.setItem("ust", ust);
}

// Forgets the session, and everything that the page has shown of it: the next one at this screen may be somebody else.
function forget() {
  ust = "";
  user = null;
  sessionStorage.removeItem("ust");
  for (const form of document.forms) form.reset();
  for (const id of ["#passkeys", "#sessions", "#recovery-codes", "#totp-key", "#who-name"]) $(id).replaceChildren();
  for (const id of ["#recovery", "#totp-confirm", "#totp-end", "#log-in-code"]) $(id).hidden = true;
  $("#totp-qr").removeAttribute("src");
}

async function once(method, path, fields) {
  const headers = { "Content-Type": "application/json" };
  if (ust) headers.Authorization = `Bearer ${ust}`;
  let url = BASE + path, body;
  if (method === "GET") url += `?${new URLSearchParams({ current_app: APP, ...fields })}`;
  else body = JSON.stringify({ current_app: APP, ...fields });
  let answer, data;
  try {
    answer = await fetch(url, { method, headers, body });
    data = await answer.json();
  } catch {
    throw new Error("The server cannot be reached. Try again in a moment.");
  }
  if (data.status === "error") throw new Refused([data.sub_status || "E005001"].flat());
  if (!answer.ok) throw new Error((data.details || []).map((d) => d.message || d).join(" ") || "That cannot be understood.");
  if (data.ust) keep(data.ust);
  return data;
}

// The answer to a call; asks who it is once more where that is needed.
async function call(method, path, fields = {}) {
  try {
    return await once(method, path, fields);
  } catch (error) {
    if (error.codes?.includes(NO_SESSION) && ust) {
      forget();
      go("log-in");
      throw new Error("You have been logged out. Log in again!");
    }
    if (!error.codes?.includes(STEP_UP)) throw error;
    await stepUp();
    return once(method, path, fields);
  }
}

// Passkeys: the API speaks the JSON of the standard, in which bytes are base64url

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const withBytes = (list) => (list || []).map((item) => ({ ...item, id: bytes(item.id) }));

async function createPasskey(options) {
  const publicKey = {
    ...options,
    challenge: bytes(options.challenge),
    user: { ...options.user, id: bytes(options.user.id) },
    excludeCredentials: withBytes(options.excludeCredentials),
  };
  const { id, rawId, type, response } = await navigator.credentials.create({ publicKey });
  return {
    id, type, rawId: text(rawId),
    response: {
      clientDataJSON: text(response.clientDataJSON),
      attestationObject: text(response.attestationObject),
      transports: response.getTransports?.() || [],
    },
  };
}

async function usePasskey(options) {
  const publicKey = { ...options, challenge: bytes(options.challenge), allowCredentials: withBytes(options.allowCredentials) };
  const { id, rawId, type, response } = await navigator.credentials.get({ publicKey });
  return {
    id, type, rawId: text(rawId),
    response: {
      clientDataJSON: text(response.clientDataJSON),
      authenticatorData: text(response.authenticatorData),
      signature: text(response.signature),
      userHandle: response.userHandle ? text(response.userHandle) : null,
    },
  };
}

function stepUp() {
  const dialog = $("#step-up"), form = dialog.querySelector("form");
  form.reset();
  dialog.returnValue = "";
  return new Promise((resolve, reject) => {
    $("#step-up-passkey").onclick = async () => {
      try {
        const { options } = await once("POST", "user/passkey/step-up/options");
        await once("POST", "user/passkey/step-up", { credential: await usePasskey(options) });
        dialog.onclose = null;
        dialog.close();
        resolve();
      } catch (error) {
        say(error);
      }
    };
    dialog.onclose = async () => {
      if (dialog.returnValue !== "password") return reject(new Error("Nothing was changed."));
      const { password, totp_code } = fieldsOf(form);
      try {
        await once("POST", "user/session/step-up", { password, totp_code });
        resolve();
      } catch (error) {
        reject(error);
      }
    };
    dialog.showModal();
  });
}

// The page

function say(what) {
  const message = $("#message"), isError = what instanceof Error;
  const aborted = isError && ["NotAllowedError", "AbortError"].includes(what.name);
  message.textContent = aborted ? "No passkey was used." : isError ? what.message : what;
  message.classList.toggle("error", isError);
  message.hidden = !what;
}

function show(view) {
  for (const element of document.querySelectorAll("[data-view]")) element.hidden = element.dataset.view !== view;
  for (const element of document.querySelectorAll("[data-show]")) element.hidden = element.dataset.show !== view;
  if (view !== "account") $(`[data-view="${view}"] input`).focus();
}

// Where the address leads: what is behind # never reaches a server, so tokens of e-mails are there.
async function route() {
  const [, name, token] = location.hash.match(/^#([\w-]*)(?:=(.*))?$/) || [];
  if (token) {
    history.replaceState(null, "", location.pathname);
    const [view, field] = name === "reset_token" ? ["reset", "#reset [name=token]"] : ["confirm", "#confirm [name=confirm_token]"];
    show(view);
    $(field).value = decodeURIComponent(token);
  } else if (["sign-up", "confirm", "forgotten", "reset"].includes(name)) {
    show(name);
  } else if (ust) {
    await account();
  } else {
    show("log-in");
  }
}

function go(name) {
  if (location.hash === `#${name}` || (name === "" && !location.hash)) return route();
  location.hash = name;
  return Promise.resolve();
}

const fieldsOf = (form) => Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));

function row(title, detail, ...rest) {
  const item = document.createElement("li"), about = document.createElement("span"), small = document.createElement("small");
  about.className = "about";
  small.textContent = detail;
  about.append(title, small);
  item.append(about, ...rest);
  return item;
}

function tag(label) {
  const element = document.createElement("span");
  element.className = "tag";
  element.textContent = label;
  return element;
}

function button(label, action, kind = "quiet") {
  const element = document.createElement("button");
  Object.assign(element, { type: "button", className: kind, textContent: label });
  element.onclick = () => during(element, action);
  return element;
}

const when = (time) => (time ? new Date(`${time}Z`).toLocaleString() : "never");

async function account() {
  try {
    user = await call("GET", "user");
  } catch (error) {
    if (error.codes?.includes(MUST_ENROL)) {
      user = { username: "", is_totp_enabled: false };
      say("You need a second factor here: add a passkey, or set up an authenticator.");
    } else {
      forget();
      show("log-in");
      throw error;
    }
  }
  $("#who-name").textContent = user.username;
  $("#greeting").textContent = user.display_name ? `Hello ${user.display_name}` : "Your account";
  for (const name of ["display_name", "email"]) $(`#profile [name=${name}]`).value = user[name] || "";
  $("#password [name=username]").value = user.username;
  $("#totp-state").textContent = user.is_totp_enabled ? "On: each log-in with your password asks for a code." : "Off.";
  $("#totp-begin").textContent = user.is_totp_enabled ? "Use another one" : "Set up";
  $("#totp-begin").hidden = false;
  $("#totp-end").hidden = !user.is_totp_enabled;
  $("#totp-confirm").hidden = true;
  show("account");
  if (user.username) await Promise.all([listPasskeys(), listSessions()]);
}

async function listPasskeys() {
  const { result = [] } = await call("GET", "user/passkey");
  $("#passkeys").replaceChildren(...result.map((item) => row(
    item.label, `Used: ${when(item.last_used)}`,
    button("Delete", async () => {
      await call("DELETE", "user/passkey", { passkey_id: item.id });
      await listPasskeys();
      return "The passkey is deleted.";
    }),
  )));
}

async function listSessions() {
  const { result = [] } = await call("GET", "user/session/list");
  $("#sessions").replaceChildren(...result.map((item) => row(
    item.user_agent || "Unknown browser", `${item.remote_addr}, since ${when(item.creation_time)}`,
    item.is_current ? tag("this one") : button("Log out", async () => {
      await call("DELETE", "user/session", { public_id: item.public_id });
      await listSessions();
      return "That session has ended.";
    }),
  )));
}

// Does something and says what came of it; whoever clicks twice does it once.
async function during(element, action) {
  const buttons = element.matches("form") ? [...element.querySelectorAll("button")] : [element];
  for (const item of buttons) item.disabled = true;
  say("");
  try {
    const done = await action();
    if (done) say(done);
  } catch (error) {
    say(error);
  } finally {
    for (const item of buttons) item.disabled = false;
  }
}

function on(selector, action) {
  const element = $(selector);
  const type = element.matches("form") ? "submit" : "click";
  element.addEventListener(type, (event) => {
    event.preventDefault();
    during(element, () => action(element.matches("form") ? fieldsOf(element) : {}, element));
  });
}

async function entered(form) {
  form?.reset();
  $("#log-in-code").hidden = true;
  await go("");
}

on("#log-in", async (fields, form) => {
  try {
    await call("POST", "user/login", fields);
  } catch (error) {
    if (error.codes?.includes(SECOND_FACTOR_MISSING)) {
      $("#log-in-code").hidden = false;
      $("#log-in-code input").focus();
    }
    throw error;
  }
  await entered(form);
});

on("#passkey-log-in", async () => {
  const { options } = await call("POST", "user/passkey/login/options");
  await call("POST", "user/passkey/login", { credential: await usePasskey(options) });
  await entered();
});

on("#sign-up", async (fields, form) => {
  await call("POST", "user/signup", { ...fields, app_list: [APP] });
  form.reset();
  await go("confirm");
  return "Thank you. Look into your mailbox!";
});

on("#confirm", async (fields, form) => {
  await call("PATCH", "user/signup", fields);
  form.reset();
  await go("log-in");
  return "Your e-mail address is confirmed. You can log in once the account is approved.";
});

on("#forgotten", async (fields, form) => {
  await call("POST", "password/reset", fields);
  form.reset();
  await go("reset");
  return "If there is such an account, it gets an e-mail now.";
});

on("#reset", async ({ token, password }, form) => {
  const { reset_key } = await call("PATCH", "password/reset", { token });
  await call("DELETE", "password/reset", { token, reset_key, password });
  form.reset();
  await go("log-in");
  return "Your password is set. Log in!";
});

on("#log-out", async () => {
  const token = ust;
  forget();
  try {
    await once("POST", "user/logout", { ust: token });
  } finally {
    await go("log-in");
  }
  return "You are logged out.";
});

on("#profile", async ({ display_name = null, email }) => {
  await call("PATCH", "user", { display_name, ...(email === user.email ? {} : { email }) });
  await account();
  return "Saved.";
});

on("#password", async ({ old_password, new_password }, form) => {
  await call("PATCH", "user/password", { old_password, new_password });
  form.reset();
  await account();
  return "Your password is changed, and you are logged out everywhere else.";
});

on("#passkey-add", async () => {
  const { options } = await call("POST", "user/passkey/options");
  const label = navigator.userAgentData?.platform || navigator.platform || "Passkey";
  await call("POST", "user/passkey", { credential: await createPasskey(options), label });
  await account();
  return "The passkey is added: use it when you log in next.";
});

on("#totp-begin", async () => {
  const made = await call("POST", "user/totp");
  $("#totp-qr").src = `data:image/svg+xml,${encodeURIComponent(made.qr_svg)}`;
  $("#totp-key").textContent = made.totp_key;
  $("#totp-confirm").hidden = false;
  $("#totp-begin").hidden = true;
  $("#totp-confirm input").focus();
});

on("#totp-confirm", async (fields, form) => {
  const { recovery_codes } = await call("POST", "user/totp/confirm", fields);
  form.reset();
  await account();
  $("#recovery-codes").replaceChildren(...recovery_codes.map((code) => {
    const item = document.createElement("li");
    item.textContent = code;
    return item;
  }));
  $("#recovery").hidden = false;
  return "Your authenticator is set up.";
});

on("#totp-end", async (fields, form) => {
  await call("DELETE", "user/totp", fields);
  form.reset();
  $("#recovery").hidden = true;
  await account();
  return "Your authenticator is switched off.";
});

on("#end-others", async () => {
  await call("DELETE", "user/session/others");
  await listSessions();
  return "You are logged out everywhere else.";
});

for (const link of document.querySelectorAll("a[href^='#']")) link.addEventListener("click", () => say(""));
window.addEventListener("hashchange", () => route().catch(say));
if (!window.PublicKeyCredential) for (const id of ["#passkey-log-in", "#passkey-add", "#step-up-passkey"]) $(id).hidden = true;
route().catch(say);
