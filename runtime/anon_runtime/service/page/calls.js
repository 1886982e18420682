// Calls of the service's own routes, and what both tabs say to the person.

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
