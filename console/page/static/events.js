// The list of live events: the newest at the top, at most so many; held back while it is paused.
"use strict";
(() => {
  const MOST = 500;
  const table = document.getElementById("events");
  const pause = document.getElementById("pause");
  if (!table || !pause) return;
  const rows = table.tBodies[0];
  const state = document.getElementById("held-back");
  let held = [];
  let paused = false;

  const time = (text) => text.slice(0, 19).replace("T", " ");

  function add(row) {
    const empty = document.getElementById("no-events");
    if (empty) empty.remove();
    const line = document.createElement("tr");
    const parts = [time(row.at), row.network === "_system" ? "-" : row.network, row.event, row.address,
      row.owner, row.node, row.pool, row.actor || row.user_id];
    for (const part of parts) {
      const cell = document.createElement("td");
      cell.textContent = part || "-";
      line.append(cell);
    }
    rows.prepend(line);
    while (rows.rows.length > MOST) rows.lastElementChild.remove();
  }

  document.addEventListener("moorage:row", (event) => {
    const chosen = table.dataset.events;
    if (chosen && event.detail.network !== chosen) return;
    if (!paused) {
      add(event.detail);
      return;
    }
    held = [...held, event.detail].slice(-MOST);
    state.textContent = `${held.length} held back`;
  });

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    state.textContent = paused ? "paused" : "";
    if (paused) return;
    held.forEach(add);
    held = [];
  });
})();
