
// The appliance's image: what it found wrong, its two slots, updates. Elsewhere there is none of it.
const named = (slot) => `slot ${slot.toUpperCase()}`;
const beside = (slot) => (slot === "a" ? "b" : "a");

function showProblems(problems) {
  $("problems").hidden = !problems.length;
  const shown = JSON.stringify(problems), list = $("problems").querySelector("ul");
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  list.replaceChildren(...problems.map((problem) => make("li", problem)));
}

// An update that is being checked or written; when it is whole, the host restarts.
function underWay({ update }) {
  return update && !update.failed ? update : null;
}

function lead(slots) {
  const { running, committed, trial, on_trial: onTrial } = slots, update = underWay(slots);
  const version = `Version ${slots[running].version}`;
  if (onTrial) {
    return `${version} is on trial: it stays once it has answered a prompt. Otherwise ${named(beside(running))} comes back by itself.`;
  }
  if (update && update.percent === 100) return `Version ${update.version} is installed. The appliance restarts to try it.`;
  if (update) return `${update.version ? `Version ${update.version}` : "An update"} is being installed. What runs goes on meanwhile.`;
  if (trial) return `${version} runs. At the next start ${named(trial.slot)} is tried.`;
  if (committed && committed !== running) return `${version} runs, for ${named(committed)} could not be started.`;
  return `${version} runs.`;
}

// Why the last update or trial failed, and what to do about it.
function setback(slots) {
  const { running, update } = slots, own = slots[running], other = named(beside(running)), left = slots[beside(running)];
  if (update && update.failed) {
    const [, code, what] = /^(E-[A-Z-]+): (.*)$/s.exec(update.what) || [null, null, update.what];
    return `The last update failed: ${sentence(what)}${code ? ` (${code})` : ""}`;
  }
  if (own.state === "bad") {
    const why = `What runs was found bad: ${own.why}. It stays, for ${other} was never good.`;
    return `${why} Install an update, or write the image again.`;
  }
  if (left.state !== "bad" || underWay(slots)) return "";
  const what = `${left.version ? `Version ${left.version} in ${other}` : other} was given up: ${left.why}.`;
  return `${sentence(what)} What runs is unharmed: nothing needs to be done. A corrected update takes its place.`;
}

function slotFacts(slots, name) {
  const { version, state, verdict } = slots[name], { trial, starts } = slots;
  const runs = slots.running === name, tried = trial && trial.slot === name;
  const facts = [runs ? "runs" : "in reserve", version ? `version ${version}` : "version not known"];
  if (tried) facts.push(runs ? `on trial, attempt ${trial.attempts}` : "to be tried");
  if (state === "bad") facts.push("bad");
  if (state === "good") facts.push(verdict && verdict.address ? `good: ${verdict.by} answered at ${verdict.address}` : "good");
  if (state === "untested" && !tried) facts.push("not judged yet");
  if (runs && starts > 1) facts.push(`started ${starts} times since it was last judged good`);
  return facts.join(", ");
}

function showSystem(slots) {
  $("system").hidden = !slots;
  if (!slots) return;
  say($("running"), lead(slots));
  const update = underWay(slots), whole = update && update.percent === 100;
  $("updating").hidden = !update || whole;
  if (update) {
    $("updating").querySelector("progress").value = update.percent;
    say($("updating").querySelector("span"), `${update.percent} %, ${update.what}`);
  }
  const what = setback(slots);
  say($("setback"), what);
  $("setback").hidden = !what;
  for (const name of ["a", "b"]) say($(`slot-${name}`), sentence(slotFacts(slots, name)));
}
