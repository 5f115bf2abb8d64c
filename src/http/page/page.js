"use strict";
const POLL_MS = 2000, TIMEOUT_MS = 8000, INCIDENTS = 8;
const $ = (id) => document.getElementById(id);

// State: how it looks, its headline, and whether somebody has to do something.
const STATES = {
  booting: ["work", "Starting"],
  probing: ["work", "Looking for the card"],
  loading: ["work", "Loading the model"],
  ready: ["good", "Ready"],
  busy: ["good", "Answering"],
  suspect: ["work", "Checking the card"],
  recovering: ["work", "Recovering"],
  degraded: ["work", "Answering with the spare model"],
  parked: ["bad", "Not answering"],
  no_card: ["bad", "No card"],
  thermal_hold: ["work", "Cooling down"],
  stopping: ["work", "Stopping"],
};
const PERSON = ["degraded", "parked", "no_card"];

// Text is only changed where it differs, so that screen readers are told once.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : whole + ".";
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

function remedy(status) {
  const failure = status.last_failure, parts = [];
  if (failure && PERSON.includes(status.state)) {
    parts.push(`${sentence(failure.meaning)} ${failure.remedy} (${failure.code})`);
  } else if (status.state === "thermal_hold") {
    parts.push("Nothing needs to be done at once. If it recurs, see to the card’s cooling.");
  } else if (status.incident) {
    const cause = failure ? `${sentence(failure.meaning)} (${failure.code})` : `(${status.incident.code})`;
    parts.push(`Nothing needs to be done: it mends itself. Cause: ${cause}`);
  }
  if (status.next_try_s != null) parts.push(`The card is tried again in ${duration(status.next_try_s)}.`);
  const model = status.appliance && status.appliance.models;
  if (model && model.state === "failed") {
    parts.push(`${model.model ? `The model ${model.model}` : "The model"} was not installed: ${model.why}`);
  } else if (model && model.state !== "installed") {
    parts.push(`The model ${model.model} is being installed: ${Math.floor((100 * model.checked) / (model.bytes || 1))} %.`);
  }
  return parts.join(" ");
}

function showState(status) {
  const [mood, headline] = STATES[status.state] || ["work", status.state];
  $("state").dataset.mood = mood;
  say($("headline"), headline);
  say($("meaning"), sentence(status.meaning));
  const help = remedy(status);
  say($("remedy"), help);
  $("remedy").hidden = !help;
  const loading = status.state === "loading" && status.loading;
  $("loading").hidden = !loading;
  if (loading) $("loading").value = loading.of ? loading.done / loading.of : 0;
  document.title = `${headline} – llm8850`;
}

function showLamp(name, lamp) {
  const item = $(`lamp-${name}`), light = item.querySelector(".lamp");
  say(item.querySelector("b"), lamp.shows.name);
  const pattern = JSON.stringify(lamp);
  if (light.dataset.pattern === pattern) return;
  light.dataset.pattern = pattern;
  light.style.setProperty("--colour", CSS.supports("color", lamp.colour) ? lamp.colour : "currentColor");
  light.getAnimations({ subtree: true }).forEach((playing) => playing.cancel());
  const { steps, smooth } = lamp.shows, period = steps.reduce((sum, [, ms]) => sum + ms, 0);
  const brightest = Math.max(...steps.map(([brightness]) => brightness)) / 255;
  light.style.setProperty("--lit", brightest);
  if (steps.length < 2 || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  let at = 0;
  const frames = steps.map(([brightness, ms]) => {
    const frame = { opacity: brightness / 255, offset: at / period, easing: smooth ? "ease-in-out" : "step-end" };
    at += ms;
    return frame;
  });
  frames.push({ opacity: frames[0].opacity, offset: 1 });
  light.animate(frames, { duration: period, iterations: Infinity, pseudoElement: "::after" });
}

function showFacts(status) {
  const last = status.answers[0], facts = [];
  if (status.temperature_c != null) facts.push(["Card temperature", `${Math.round(status.temperature_c)} °C`]);
  if (status.card_free_memory_bytes != null) {
    facts.push(["Card memory free", `${(status.card_free_memory_bytes / 2 ** 30).toFixed(1)} GiB`]);
  }
  if (last) {
    if (last.tokens_per_s) facts.push(["Last answer’s speed", `${last.tokens_per_s.toFixed(1)} tokens/s`]);
    facts.push(["First word after", `${last.first_token_s.toFixed(1)} s`]);
  }
  facts.push(["Waiting", String(status.queue)], ["Answered", String(status.counters.answered)]);
  facts.push(["Incidents", String(status.counters.incidents)]);
  const shown = JSON.stringify(facts);
  if ($("facts").dataset.shown === shown) return;
  $("facts").dataset.shown = shown;
  $("facts").replaceChildren(...facts.map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(make("dt", name), make("dd", value));
    return pair;
  }));
}

function story(incident) {
  const parts = [sentence(incident.meaning)];
  if (incident.acts.length) parts.push(sentence(incident.acts[incident.acts.length - 1]));
  if (incident.outcome === "recovered") parts.push(`Mended after ${duration(incident.recovered_s)}.`);
  else if (incident.outcome === "restarted") parts.push("A restart ended it.");
  else parts.push("Not mended yet.", incident.remedy);
  return `${parts.join(" ")} (${incident.code})`;
}

async function showIncidents() {
  const { data } = await ask("/v1/incidents");
  const items = data.slice(0, INCIDENTS).map((incident) => {
    const item = document.createElement("li"), time = make("time", new Date(incident.unix_ms).toLocaleString());
    time.dateTime = new Date(incident.unix_ms).toISOString();
    item.append(time, story(incident));
    return item;
  });
  $("incidents").replaceChildren(...(items.length ? items : [make("li", "None.")]));
}

// The key, where one is asked for. Kept as long as the tab is open; a browser that keeps nothing asks again.
const KEPT = "llm8850-key";
let key = "", locked = false;
try {
  key = sessionStorage.getItem(KEPT) || "";
} catch {}

function use(given) {
  key = given;
  try {
    if (key) sessionStorage.setItem(KEPT, key);
    else sessionStorage.removeItem(KEPT);
  } catch {}
}

async function call(path, options) {
  const had = key, headers = had ? { authorization: `Bearer ${had}` } : {};
  const reply = await fetch(path, { ...options, headers });
  if (reply.status === 401) {
    // Another may have been entered meanwhile.
    if (had && had === key) use("");
    if (had) say($("refused"), "This key is not accepted.");
    $("access").hidden = false;
    locked = true;
  }
  return reply;
}

// What an error says, in the words of the appliance.
async function told(reply) {
  const { error } = await reply.json();
  return Object.assign(new Error(error.message), { status: reply.status });
}

async function ask(path) {
  const reply = await call(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!reply.ok) throw await told(reply);
  return reply.json();
}

$("unlock").addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = $("key").value.trim();
  if (!/^[!-~]+$/.test(given)) return say($("refused"), "A key has letters, digits and signs only.");
  use(given);
  try {
    await ask("/v1/models");
    say($("refused"), "");
    $("key").value = "";
    $("access").hidden = true;
    $("prompt").focus();
    poll();
  } catch (error) {
    if (error.status !== 401) say($("refused"), `The key could not be tried: ${error.message}`);
  }
});

// A link brings no key along: where keys are asked for, what it leads to is fetched, then saved.
async function save(link) {
  say($("unsaved"), "");
  try {
    const reply = await call(link.getAttribute("href"));
    if (!reply.ok) throw await told(reply);
    const file = document.createElement("a");
    file.href = URL.createObjectURL(await reply.blob());
    file.download = link.dataset.file;
    file.click();
    setTimeout(() => URL.revokeObjectURL(file.href), TIMEOUT_MS);
  } catch (error) {
    say($("unsaved"), `Not saved: ${error.message}`);
  }
}
for (const link of document.querySelectorAll("a[data-file]")) {
  link.addEventListener("click", (event) => {
    if (!locked) return;
    event.preventDefault();
    save(link);
  });
}

let timer, polling = false, seen = "";
async function poll() {
  clearTimeout(timer);
  if (document.hidden || polling) return;
  polling = true;
  try {
    const status = await ask("/v1/status");
    locked = status.keys;
    $("access").hidden = !locked || key !== "";
    showState(status);
    showLamp("status", status.lights.status);
    showLamp("fault", status.lights.fault);
    showFacts(status);
    showProblems(status.problems);
    showSystem(status.appliance);
    await showModels(status);
    say($("model"), status.model ? status.model.name : "");
    say($("about"), `Version ${status.version}, running since ${new Date(status.started * 1000).toLocaleString()}`);
    const { incidents, recoveries } = status.counters, { code, rung } = status.incident || {};
    const news = [status.started, incidents, recoveries, code, rung, code && status.state].join();
    if (news !== seen) {
      await showIncidents();
      seen = news;
    }
  } catch (error) {
    const asked = error.status === 401;
    $("state").dataset.mood = asked ? "work" : "bad";
    say($("headline"), asked ? "Locked" : error.status ? "Not answering" : "No connection");
    const away = "The appliance does not answer: it restarts, or is off, or this device left its network.";
    say($("meaning"), asked ? "Its state is told to who has a key." : error.status ? error.message : away);
    $("remedy").hidden = $("loading").hidden = true;
  } finally {
    polling = false;
    timer = setTimeout(poll, POLL_MS);
  }
}
document.addEventListener("visibilitychange", poll);

// The pieces of an answer, as server-sent events.
async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
    }
  }
}

let running;
async function answer(prompt) {
  running = new AbortController();
  $("send").disabled = true;
  $("stop").disabled = false;
  $("thought").textContent = $("text").textContent = $("wrong").textContent = "";
  $("answer").hidden = false;
  say($("progress"), "Waiting for the first word …");
  try {
    const body = JSON.stringify({ model: "any", stream: true, messages: [{ role: "user", content: prompt }] });
    const reply = await call("/v1/chat/completions", { method: "POST", body, signal: running.signal });
    if (!reply.ok) throw await told(reply);
    for await (const piece of events(reply)) {
      if (piece.error) throw new Error(piece.error.message);
      const delta = piece.choices.length ? piece.choices[0].delta : {};
      if (delta.content || delta.reasoning_content) say($("progress"), "Answering …");
      // Always as text: what a model writes is never markup.
      $("thought").append(delta.reasoning_content || "");
      $("text").append(delta.content || "");
      $("answer").scrollTop = $("answer").scrollHeight;
    }
    say($("progress"), "Done.");
  } catch (error) {
    const stopped = running.signal.aborted;
    say($("progress"), stopped ? "Stopped." : "");
    if (!stopped) say($("wrong"), `No answer: ${error.message}`);
  } finally {
    if (document.activeElement === $("stop")) $("prompt").focus();
    $("send").disabled = false;
    $("stop").disabled = true;
  }
}

$("try").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = $("prompt").value.trim() || $("prompt").placeholder;
  if (!$("send").disabled) answer(prompt);
});
$("stop").addEventListener("click", () => running.abort());
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("try").requestSubmit();
});
poll();
