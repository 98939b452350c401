"use strict";
const settings = document.getElementById("settings");
const lanes = document.getElementById("lanes");
const ask = document.getElementById("ask");
const [send, stop, anew] = ["send", "stop", "anew"].map((id) => document.getElementById(id));
const CLOSES = "</think>", OPENS = "<think>";
let talks = [];
let stopping = null;

function element(kind, style, text) {
  const made = document.createElement(kind);
  made.className = style;
  made.textContent = text;
  return made;
}

// A conversation of its own for every model in every mode.
function begin() {
  const fields = settings.elements;
  const models = [...new Set([fields.left.value, fields.right.value])].filter(Boolean);
  const modes = fields.mode.value === "both" ? ["think", "no_think"] : [fields.mode.value];
  talks = modes.flatMap((mode) => models.map((model) => {
    const box = element("section", "lane", "");
    const head = element("h2", "", model + " ");
    head.append(element("span", "", mode.replace("_", " ")));
    box.append(head);
    return { model, think: mode === "think", turns: [], box };
  }));
  lanes.replaceChildren(...talks.map((talk) => talk.box));
}

function writer(box) {
  const turn = element("div", "turn assistant", "");
  const thought = element("span", "thought", ""), said = element("span", "", "");
  turn.append(thought, said);
  box.append(turn);
  let whole = "";
  return {
    add(piece) {
      whole += piece;
      const end = whole.indexOf(CLOSES);
      const opened = whole.trimStart().startsWith(OPENS);
      const inside = opened ? (end < 0 ? whole : whole.slice(0, end)) : "";
      thought.textContent = inside.trimStart().slice(opened ? OPENS.length : 0).trim();
      said.textContent = opened ? (end < 0 ? "" : whole.slice(end + CLOSES.length).trim()) : whole;
    },
    get text() { return whole; },
  };
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
  }
}

async function answerOf(talk, question, signal) {
  const fields = settings.elements;
  talk.box.append(element("div", "turn user", question));
  const written = writer(talk.box);
  const count = element("div", "count", "");
  talk.box.append(count);
  const turns = [...talk.turns, { role: "user", content: question }];
  const asked = {
    model: talk.model, think: talk.think, turns, system: fields.system.value,
    temperature: fields.temperature.value === "" ? null : Number(fields.temperature.value),
    max_new_tokens: Number(fields.most.value),
  };
  let ended = false, refused = "";
  const began = performance.now();
  try {
    const answer = await fetch(ask.dataset.to, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked), signal,
    });
    if (!answer.ok) refused = (await answer.json().catch(() => ({}))).told || `refused (${answer.status})`;
    else for await (const event of events(answer)) {
      if (event.kind === "wait") count.textContent = "waits for another answer";
      else if (event.kind === "load") count.textContent = `loads ${event.model}`;
      else if (event.kind === "piece") { written.add(event.text); count.textContent = "writes"; }
      else if (event.kind === "problem") refused = event.told;
      else if (event.kind === "done") {
        ended = true;
        const rate = (event.tokens / Math.max(event.seconds, 0.01)).toFixed(1);
        count.textContent = `${event.tokens} tokens in ${event.seconds} s, ${rate} a second` +
          (event.full ? "; ended at the most tokens" : "");
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") refused = "The server does not answer any more.";
  }
  if (refused) {
    count.textContent = refused;
    count.classList.add("bad");
  } else if (!ended) {
    count.textContent = `stopped after ${((performance.now() - began) / 1000).toFixed(1)} s`;
  }
  // What was refused is no turn; what was stopped is one as far as it came.
  if (!refused && written.text.trim()) talk.turns = [...turns, { role: "assistant", content: written.text }];
}

async function askAll(question) {
  stopping = new AbortController();
  send.disabled = anew.disabled = true;
  stop.disabled = false;
  for (const talk of talks) {
    if (stopping.signal.aborted) break;
    await answerOf(talk, question, stopping.signal);
  }
  stopping = null;
  send.disabled = anew.disabled = false;
  stop.disabled = true;
}

if (settings) {
  for (const name of ["left", "right", "mode"]) {
    settings.elements[name].addEventListener("change", () => { if (stopping) stopping.abort(); begin(); });
  }
  settings.addEventListener("submit", (event) => event.preventDefault());
  anew.addEventListener("click", begin);
  stop.addEventListener("click", () => stopping && stopping.abort());
  ask.elements.question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      ask.requestSubmit();
    }
  });
  ask.addEventListener("submit", (event) => {
    event.preventDefault();
    const question = ask.elements.question.value;
    if (stopping || !question.trim() || !settings.reportValidity()) return;
    ask.elements.question.value = "";
    askAll(question);
  });
  begin();
}
