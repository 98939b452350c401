"use strict";
// The token stands behind #, which is sent to nobody, and is taken out of the address before anything is asked.
const form = document.getElementById("enter");
const told = document.getElementById("told");

async function enter(token) {
  const answer = await fetch(form.dataset.to, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  }).catch(() => null);
  if (answer && answer.ok) location.reload();
  else told.textContent = answer ? "That is not the token." : "The server does not answer.";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  enter(form.elements.token.value.trim());
});
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  history.replaceState(null, "", location.pathname + location.search);
  enter(given);
}
