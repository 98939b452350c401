"use strict";
// What `apo-soup why` says arrives a step at a time; it is looked for until all is known.
const list = document.getElementById("states");
const asked = document.getElementById("asked");
const again = document.getElementById("again");

function show(known) {
  list.replaceChildren(...known.states.map((state) => {
    const item = document.createElement("li");
    item.textContent = state.lines.join("\n");
    item.className = state.stale ? "stale" : "";
    return item;
  }));
  if (known.problem) {
    const item = document.createElement("li");
    item.textContent = known.problem;
    item.className = "stale";
    list.append(item);
  }
  if (known.done) {
    asked.textContent = `As it was ${known.seconds} seconds ago.`;
    again.hidden = false;
  }
}

async function look(anew) {
  again.hidden = true;
  for (let query = anew ? "?again=1" : ""; ; query = "") {
    let known;
    try {
      const answer = await fetch("states" + query);
      known = await answer.json();
    } catch (error) {
      asked.textContent = "The server does not answer any more.";
      again.hidden = false;
      return;
    }
    show(known);
    if (known.done) return;
    await new Promise((wake) => setTimeout(wake, 1000));
  }
}

again.addEventListener("click", () => look(true));
look(false);
