// The tab for a review: the portraits of a folder one by one, and the decisions about them.

import { $, Problem, call, clear, form, say, show } from "./calls.js";

const STATES = { open: "not decided", accept: "accepted", repaint: "to be painted again", refuse: "refused" };
const KEYS = { a: "accept", p: "repaint", r: "refuse" };
const state = { shown: null, place: 0, counts: null, wanted: null, turn: 0 };

// Show the portrait at the current place among those of the chosen state.
export async function review() {
  const turn = ++state.turn;
  try {
    const chosen = $("state").value || "open";
    const answer = await (await call(`v1/review?state=${chosen}&start=${state.place}&count=1`)).json();
    if (turn !== state.turn) return; // the person has moved on meanwhile
    Object.assign(state, { counts: answer.counts, shown: answer.portraits[0] ?? null, wanted: null });
    const total = answer.counts[chosen];
    if (!state.shown && total) {
      state.place = total - 1;
      await review();
      return;
    }
    $("folder").textContent = answer.folder;
    const options = Object.entries(STATES).map(([name, text]) => new Option(`${text} (${answer.counts[name]})`, name));
    $("state").replaceChildren(...options);
    $("state").value = chosen;
    $("nothing").hidden = total > 0;
    $("exhibit").hidden = total === 0;
    if (!state.shown) return;
    $("place").textContent = `Portrait ${state.place + 1} of ${total}, ${STATES[chosen]}`;
    $("previous").disabled = state.place === 0;
    $("next").disabled = state.place + 1 >= total;
    $("reason").value = "";
    showFacts(answer.limit);
    await showPicture(turn);
  } catch (error) { if (turn === state.turn) show(error); }
}

function showFacts(limit) {
  const { files, similarity, rank, nearest, attempt, prompt, decision } = state.shown;
  const facts = { File: files.map((file) => file.output).join(", ") };
  if (similarity !== null) {
    const bound = limit === null ? "" : `; the guard's limit is ${limit.toFixed(2)}`;
    facts["Similarity to the original"] = `${similarity.toFixed(2)}${bound}`;
    facts.Resembles = rank === 1 ? "nobody more than the original" : `${rank - 1} people more than the original`;
  } else facts["Similarity to the original"] = "not measured";
  if (nearest !== null) facts["Similarity to another person"] = `${nearest.toFixed(2)} at most`;
  facts.Attempt = attempt + 1;
  facts.Words = prompt ?? "";
  if (decision) {
    const why = decision.reason ? `: ${decision.reason}` : "";
    facts.Decision = `${STATES[decision.verdict]} by ${decision.by}, ${new Date(decision.at).toLocaleString()}${why}`;
  }
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function element(kind, text) {
  return Object.assign(document.createElement(kind), { textContent: text });
}

async function showPicture(turn) {
  const image = $("painted"), { id, prompt, decision } = state.shown;
  URL.revokeObjectURL(image.src);
  image.hidden = true;
  $("gone").hidden = !decision || decision.verdict === "accept";
  if (!$("gone").hidden) return; // it was removed
  let picture;
  try {
    picture = await (await call(`v1/review/portraits/${id}`)).blob();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (turn === state.turn) $("gone").hidden = false;
    return;
  }
  if (turn !== state.turn) return;
  Object.assign(image, { src: URL.createObjectURL(picture), hidden: false });
  if (prompt === null) readWords(picture, turn); // the person need not wait for them
}

// The journal holds no words unless its run was asked to keep them: read them from the portrait itself.
async function readWords(picture, turn) {
  let text;
  try {
    const seen = await (await call("v1/descriptions", { method: "POST", body: form({ photo: picture }) })).json();
    text = `${seen.prompt} (read from the portrait, since the journal holds no words)`;
  } catch { text = "the journal holds no words, and none can be read from the portrait"; }
  if (turn === state.turn) $("facts").querySelector("dd:last-of-type").textContent = text;
}

async function decide(verdict) {
  if (!state.shown || $("exhibit").hasAttribute("aria-busy")) return;
  clear();
  state.wanted = verdict;
  const by = $("by").value.trim(), reason = $("reason").value.trim();
  if (!by) return ask("by", "Write your name first: the journal keeps who has decided.");
  if (!reason && verdict !== "accept") return ask("reason", "Write a reason first, then press Enter.");
  $("exhibit").setAttribute("aria-busy", "true");
  const { id, sha256, state: seen } = state.shown;
  try {
    const body = JSON.stringify({ id, sha256, state: seen, verdict, by, reason });
    await call("v1/review/decisions", { method: "POST", body, headers: { "Content-Type": "application/json" } });
    await review();
    $("exhibit").hidden ? $("state").focus() : $("place").focus();
    say(`The portrait is ${STATES[verdict]}. ${state.counts.open} are not decided.`);
  } catch (error) {
    await review(); // it may be another portrait now
    show(error);
  } finally { $("exhibit").removeAttribute("aria-busy"); }
}

function ask(field, text) {
  say(text);
  $(field).focus();
}

function move(steps) {
  clear();
  say("");
  state.place = Math.max(0, state.place + steps);
  review();
}

$("state").addEventListener("change", () => { state.place = 0; move(0); });
$("previous").addEventListener("click", () => move(-1));
$("next").addEventListener("click", () => move(1));
for (const button of document.querySelectorAll("[data-verdict]")) button.addEventListener("click", () => decide(button.dataset.verdict));
$("decide").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.wanted) decide(state.wanted);
  else say("Choose what to do with the portrait.");
});
document.addEventListener("keydown", (event) => {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "checkbox";
  if ($("review").hidden || !$("keys").checked || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in KEYS) decide(KEYS[event.key]);
  else if (event.key === "ArrowLeft" && !$("previous").disabled) move(-1);
  else if (event.key === "ArrowRight" && !$("next").disabled) move(1);
  else return;
  event.preventDefault();
});
