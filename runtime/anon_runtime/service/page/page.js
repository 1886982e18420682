// The page of anon-serve: its tabs, and the token where the service has one.

import { $, access, call, clear, say, show } from "./calls.js";
import { offer } from "./portraits.js";
import { review } from "./review.js";

const TABS = ["portraits", "review"];

async function begin() {
  try {
    const info = await (await call("v1/info")).json();
    clear();
    $("token-section").hidden = true;
    $("tabs").hidden = !info.review;
    offer(info);
    turn();
  } catch (error) { show(error); }
}

// Show the tab that the address names.
function turn() {
  const named = location.hash.slice(1);
  const chosen = TABS.includes(named) && !$("tabs").hidden ? named : TABS[0];
  for (const tab of TABS) $(tab).hidden = tab !== chosen;
  for (const link of $("tabs").children) {
    if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  clear();
  say("");
  if (chosen === "review") review();
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  access.token = $("token").value;
  begin();
});
window.addEventListener("hashchange", turn);
begin();
