// What is behind # never reaches a server: the token of an e-mail's link comes into the form here, and leaves the address.
function takeToken() {
  const [, token] = location.hash.match(/^#confirm_token=(.+)$/) || [];
  const field = document.querySelector("[name=confirm_token]");
  if (token && field) {
    field.value = decodeURIComponent(token);
    history.replaceState(null, "", location.pathname);
  } else if (token) {
    location.replace(`/confirm${location.hash}`);
  }
}

window.addEventListener("hashchange", takeToken);
takeToken();
