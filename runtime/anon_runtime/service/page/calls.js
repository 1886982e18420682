// Calls of the service's own routes and their answers, and what both tabs say to the person.

export const $ = (id) => document.getElementById(id);
export const access = { token: null };

export class Problem extends Error {}

export async function call(path, options = {}) {
  const headers = { ...options.headers, ...(access.token ? { Authorization: `Bearer ${access.token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: `the service has answered ${answer.status}` }));
  if (answer.status === 401) askForToken();
  throw new Problem(problem.detail);
}

function askForToken() {
  $("token-section").hidden = false;
  $("token").focus();
}

export function say(text) { $("status").textContent = text; }

export function show(error) {
  const text = error instanceof Problem ? error.message : "the service cannot be reached; check that it runs";
  $("problem").textContent = text;
  $("problem").hidden = false;
  say("");
}

export function clear() { $("problem").hidden = true; }

export function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== null) data.append(name, value);
  return data;
}

export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const [name, data] = text.slice(0, end).split("\n");
      yield [name.slice("event: ".length), JSON.parse(data.slice("data: ".length))];
    }
  }
}

export function blob({ media_type, base64 }) {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: media_type });
}
