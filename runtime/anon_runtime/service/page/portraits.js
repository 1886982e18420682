// The tab for portraits: a photo, its words, and portraits from several seeds; or the photo with other faces.

import { $, Problem, blob, call, clear, events, form, say, show } from "./calls.js";

const ETHNICITIES = ["asian", "indian", "black", "white", "middle eastern", "latino hispanic"];
const NOT_SCORES = ["Ethnic", "Age", "Male"];
const state = { photo: null, read: null, running: new Map() };
const inPlace = () => $("in-place").checked;

// Let people choose what the service's bundle can do.
export function offer(info) {
  $("steps").value = info.defaults.steps;
  const names = ["exact", "faster", "faster still, with DeepCache", "fastest, with DeepCache"];
  const cached = "unet_cached" in info.engines;
  const levels = names.map((name, level) => new Option(`${level}: ${name}`, level)).filter((_, i) => i < 2 || cached);
  $("fast").replaceChildren(...levels);
  $("mode").hidden = !info.modes.includes("in-place");
  if ($("mode").hidden) $("portrait").checked = true; // browsers remember a choice
}

async function choose(file) {
  if (!file) return;
  clear();
  cancelAll();
  Object.assign(state, { photo: file, read: null });
  for (const id of ["words-section", "paint-section", "box"]) $(id).hidden = true;
  $("candidates").replaceChildren();
  URL.revokeObjectURL($("original").src);
  $("original").src = URL.createObjectURL(file);
  $("shown").hidden = false;
  $("face").textContent = "";
  say(inPlace() ? "" : "Reading the photo ...");
  if (inPlace()) return showPaint("2. The photo with other faces"); // the service finds the faces when it paints
  try {
    const read = await (await call("v1/descriptions", { method: "POST", body: form({ photo: file }) })).json();
    if (state.photo !== file || inPlace()) return; // another one was chosen meanwhile, or the other picture
    state.read = read;
    await $("original").decode();
    showFace();
    showWords();
    say("The photo is read. Nothing of it but these words is used.");
  } catch (error) { show(error); }
}

function showFace() {
  const [x, y, width, height] = state.read.face;
  const { naturalWidth: w, naturalHeight: h } = $("original");
  Object.assign($("box").style, { left: `${(100 * x) / w}%`, top: `${(100 * y) / h}%`, width: `${(100 * width) / w}%`, height: `${(100 * height) / h}%` });
  $("box").hidden = false;
  $("face").textContent = `The biggest face: ${Math.round(width)} x ${Math.round(height)} pixels`;
}

function showWords() {
  const read = state.read.attributes;
  $("ethnic").replaceChildren(...[...new Set([...ETHNICITIES, read.Ethnic])].map((name) => new Option(name, name)));
  $("ethnic").value = read.Ethnic;
  $("age").value = read.Age;
  $("sex").value = read.Male > 0.5 ? "1" : "0";
  const names = Object.keys(read).filter((name) => !NOT_SCORES.includes(name));
  $("attributes").replaceChildren(...names.map((name) => attribute(name, read[name])));
  $("words-section").hidden = false;
  showPaint("3. Portraits");
}

function showPaint(title) {
  $("paint-title").textContent = title;
  $("first").textContent = inPlace() ? "Seed" : "First seed";
  $("many").hidden = inPlace();
  $("candidates").ariaLabel = inPlace() ? "Photos" : "Portraits";
  $("paint-section").hidden = false;
}

function attribute(name, score) {
  const row = document.createElement("div"), box = document.createElement("input"), label = document.createElement("label");
  const meter = document.createElement("meter"), value = document.createElement("output");
  Object.assign(box, { type: "checkbox", id: `a-${name}`, name, checked: score > 0.5 });
  Object.assign(label, { htmlFor: box.id, textContent: name.replaceAll("_", " ") });
  Object.assign(meter, { min: 0, max: 1, value: score, ariaLabel: `score of ${label.textContent}` });
  value.textContent = score.toFixed(2);
  row.className = "attribute";
  box.addEventListener("change", () => row.classList.toggle("changed", box.checked !== score > 0.5));
  row.append(box, label, meter, value);
  return row;
}

// The attributes to paint from: those that were read, and 0 or 1 for those that were changed.
function words() {
  const read = state.read.attributes, own = { ...read };
  for (const box of $("attributes").querySelectorAll("input")) {
    if (box.checked !== read[box.name] > 0.5) own[box.name] = Number(box.checked);
  }
  if (Number($("sex").value) !== Number(read.Male > 0.5)) own.Male = Number($("sex").value);
  return { ...own, Ethnic: $("ethnic").value, Age: $("age").valueAsNumber };
}

function put(image, picture, rest) {
  URL.revokeObjectURL(image.src);
  Object.assign(image, { src: URL.createObjectURL(picture), hidden: false, ...rest });
}

// Paint one picture, and show it on a card of its own.
async function paint(seed) {
  const card = $(inPlace() ? "pair" : "candidate").content.cloneNode(true).firstElementChild;
  const [image, bar, note, cancel, save] = [".made", "progress", ".note", ".cancel", ".save"].map((q) => card.querySelector(q));
  const stop = new AbortController(), parts = { seed, card, image, bar, note, save };
  card.querySelector("h3").textContent = `Seed ${seed}`;
  note.textContent = "Waiting";
  $("candidates").append(card);
  state.running.set(card, stop);
  cancel.addEventListener("click", () => stop.abort());
  try {
    await (inPlace() ? paintFaces(parts, stop.signal) : paintPortrait(parts, stop.signal));
  } catch (error) {
    image.hidden = true;
    note.textContent = error.name === "AbortError" ? "Cancelled" : error instanceof Problem ? error.message : "The connection was lost";
    note.classList.add("bad");
  } finally {
    state.running.delete(card);
    bar.remove();
    cancel.remove();
    $("go").disabled = state.running.size > 0;
    if (!state.running.size) say(inPlace() ? "The photo is done." : "All portraits are done.");
  }
}

// Show the steps of a request, and return the record at its end.
async function follow(path, fields, { image, bar, note }, signal) {
  const common = { photo: state.photo, steps: $("steps").value, fast: $("fast").value };
  const answer = await call(path, { method: "POST", body: form({ ...common, ...fields }), headers: { Accept: "text/event-stream" }, signal });
  for await (const [name, data] of events(answer)) {
    if (name === "problem") throw new Problem(data.detail);
    if (name !== "step") return data;
    showStep(data, image, bar, note);
  }
  throw new Error("the answer has ended too early");
}

async function paintPortrait(parts, signal) {
  const own = words(), fields = { attributes: JSON.stringify(own), seed: parts.seed, preview_every: 4 };
  await finish(await follow("v1/portraits", fields, parts, signal), own, parts);
}

// The photo before and after, side by side.
async function paintFaces(parts, signal) {
  const { seed, card, image, note, save } = parts;
  put(card.querySelector(".before"), state.photo, { alt: "The photo that you have chosen" });
  const record = await follow("v1/photos", { seed }, parts, signal);
  put(image, blob(record.image), { alt: `The photo with other faces, of seed ${seed}` });
  offerFile(save, image, `photo-${seed}.png`);
  const { people, filled, similarity } = record;
  const faces = `${people.length} ${people.length === 1 ? "face" : "faces"} replaced, ${filled.length} filled`;
  const why = filled.length ? " with the colours around, too small to paint" : "";
  const checked = similarity === null ? "" : `; the highest similarity to an original is ${similarity.toFixed(2)}`;
  note.textContent = faces + why + checked;
}

function offerFile(link, image, name) { Object.assign(link, { href: image.src, download: name, hidden: false }); }

function showStep({ done, total, attempt, preview }, image, bar, note) {
  bar.value = done / total;
  note.textContent = attempt ? `Attempt ${attempt + 1}: the guard refused the one before` : `Evaluation ${done} of ${total}`;
  if (preview) put(image, blob(preview), { className: "preview", alt: "A preview, which the guard has not seen" });
}

async function finish(record, own, { seed, image, note, save }) {
  const file = blob(record.image);
  put(image, file, { className: "", alt: `The portrait of seed ${seed}` });
  offerFile(save, image, `portrait-${seed}.png`);
  const parts = record.similarity === null ? ["not checked by the guard"] : [`similarity ${record.similarity.toFixed(2)}`];
  try {
    const seen = await (await call("v1/descriptions", { method: "POST", body: form({ photo: file }) })).json();
    const names = Object.keys(own).filter((name) => !["Ethnic", "Age"].includes(name));
    const same = names.filter((name) => seen.attributes[name] > 0.5 === own[name] > 0.5).length;
    parts.push(`${Math.round((100 * same) / names.length)} % of the attributes agree`);
  } catch { parts.push("no face is found in it"); }
  note.textContent = parts.join("; ");
}

function cancelAll() { for (const stop of state.running.values()) stop.abort(); }

$("photo").addEventListener("change", () => choose($("photo").files[0]));
for (const name of ["dragenter", "dragover"]) $("drop").addEventListener(name, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
for (const name of ["dragleave", "drop"]) $("drop").addEventListener(name, () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => { event.preventDefault(); choose(event.dataTransfer.files[0]); });
for (const mode of document.getElementsByName("mode")) mode.addEventListener("change", () => choose(state.photo));
$("reset").addEventListener("click", showWords);
$("paint").addEventListener("submit", (event) => {
  event.preventDefault();
  clear();
  $("candidates").replaceChildren();
  $("go").disabled = true;
  say("Painting ...");
  const first = BigInt($("seed").value), many = inPlace() ? 1 : Number($("count").value);
  for (let i = 0; i < many; i++) paint((first + BigInt(i)).toString());
});
