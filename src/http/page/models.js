
// The image's models: what is installed, and which is served. Told to who has an admin key.
let shelf = "";

function gigabytes(bytes) {
  return bytes >= 1e8 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function packageChoice(name, { sizes, default: served, configured }) {
  const label = document.createElement("label"), choice = document.createElement("input");
  choice.type = "radio";
  choice.name = "package";
  choice.value = name;
  choice.checked = name === served && !configured;
  choice.disabled = Boolean(configured);
  label.append(choice, ` ${name}, ${gigabytes(sizes[name])}${choice.checked ? ", served" : ""}`);
  return label;
}

function showPackages(list) {
  const { installed, default: served, configured, free } = list;
  const held = $("packages").contains(document.activeElement);
  $("packages").replaceChildren(...installed.map((name) => packageChoice(name, list)));
  // Whoever is at it with the keyboard stays there.
  const now = held && $("packages").querySelector("input:checked");
  if (now) now.focus();
  say($("room"), `${gigabytes(free)} are free.${configured ? ` The settings say which is served: model.dir is ${configured}.` : ""}`);
  $("choose").querySelector("button").hidden = Boolean(configured) || installed.every((name) => name === served);
  $("models").hidden = !installed.length;
}

// Each look starts a program of the image: only where there may be something new.
async function showModels({ appliance, started }) {
  if (!appliance || !key) {
    $("models").hidden = true;
    shelf = "";
    return;
  }
  const news = JSON.stringify([key, started, appliance.models]);
  if (news === shelf) return;
  shelf = news;
  try {
    showPackages(await ask("/v1/models/installs"));
  } catch {
    $("models").hidden = true;
  }
}

$("choose").addEventListener("submit", async (event) => {
  event.preventDefault();
  const chosen = new FormData(event.target).get("package");
  if (!chosen) return;
  say($("unchosen"), "");
  try {
    const reply = await call(`/v1/models/installs/${encodeURIComponent(chosen)}/default`, { method: "POST" });
    if (!reply.ok) throw await told(reply);
    say($("chosen"), `${chosen} is being loaded.`);
    shelf = "";
  } catch (error) {
    say($("unchosen"), `Not chosen: ${error.message}`);
  }
});
