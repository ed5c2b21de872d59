// The address map: keys move in it, the panel beside it tells of the address in focus, parts are looked into,
// and where an app is placed, free addresses are chosen. Without this script its links still lead everywhere.
"use strict";
(() => {
  const COLUMNS = 16;
  const map = () => document.getElementById("map");
  const chosenField = () => document.getElementById("addresses");
  let anchor = null;

  const focusable = (cell) => cell.querySelector("a") || cell;
  const cells = () => [...map().querySelectorAll("td")];
  const cellOf = (target) => target instanceof Element ? target.closest("#map td") : null;
  const nameOf = (cell) => focusable(cell).id.slice(1);

  function enter(cell) {
    for (const other of map().querySelectorAll('[tabindex="0"]:not(.scrolls)')) other.tabIndex = -1;
    focusable(cell).tabIndex = 0;
    focusable(cell).focus();
  }

  function tell(cell) {
    const panel = document.getElementById("details");
    const label = focusable(cell).getAttribute("aria-label");
    if (!panel || !label) return;
    const lines = [["Address", label]];
    if (cell.dataset.p) lines.push(["Pool", cell.dataset.p]);
    if (cell.dataset.t) lines.push(["Since", cell.dataset.t + " UTC"]);
    const found = document.createElement("dl");
    for (const [name, text] of lines) {
      const term = document.createElement("dt");
      const said = document.createElement("dd");
      term.textContent = name;
      said.textContent = text;
      found.append(term, said);
    }
    panel.replaceChildren(found);
    if (!cell.querySelector("a") && cell.id) {
      const link = document.createElement("a");
      link.href = `/networks/${map().dataset.network}/addresses/${nameOf(cell)}`;
      link.textContent = "Who had it before";
      panel.append(link);
    }
  }

  function words() {
    return chosenField().value.split(/[\s,]+/).filter(Boolean);
  }

  function choosable(cell) {
    return cell.classList.contains("s-free") && cell.dataset.p === "default";
  }

  function choose(list, on) {
    const kept = new Set(words());
    for (const cell of list.filter(choosable)) {
      if (on) kept.add(nameOf(cell)); else kept.delete(nameOf(cell));
    }
    chosenField().value = [...kept].join(" ");
    chosenField().dispatchEvent(new Event("input", { bubbles: true }));
    show();
  }

  function show() {
    const part = map();
    if (!part || !("choose" in part.dataset) || !chosenField()) return;
    const kept = new Set(words());
    for (const cell of cells()) {
      if (!choosable(cell)) continue;
      const on = kept.has(nameOf(cell));
      cell.classList.toggle("chosen", on);
      cell.setAttribute("aria-selected", String(on));
    }
    const count = document.getElementById("chosen-count");
    if (count) count.textContent = String(kept.size);
  }

  function toggle(cell, extend) {
    const all = cells();
    if (extend && anchor && all.includes(anchor)) {
      const [from, to] = [all.indexOf(anchor), all.indexOf(cell)].sort((a, b) => a - b);
      choose(all.slice(from, to + 1), true);
      return;
    }
    anchor = cell;
    choose([cell], !cell.classList.contains("chosen"));
  }

  // Not by htmx: it forgets a request whose element is replaced meanwhile, and live news may replace the map.
  async function look(link) {
    const { network, choose } = map().dataset;
    const to = new URL(link.href, location.href);
    const query = new URLSearchParams(to.search);
    if (choose !== undefined) query.set("choose", "1");
    map().setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(`/networks/${network}/map?${query}`, { headers: { "HX-Request": "true" } });
      const found = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("map");
      if (!answer.ok || !found) throw new Error(String(answer.status));
      map().replaceWith(document.adoptNode(found));
    } catch {
      location.assign(to); // the whole page says what is wrong, and looks again by itself
      return;
    }
    if (location.pathname === to.pathname && choose === undefined) history.pushState({}, "", to);
    ready();
  }

  document.addEventListener("keydown", (event) => {
    const cell = cellOf(event.target);
    if (!cell || event.altKey || event.ctrlKey || event.metaKey) return;
    const all = cells();
    const at = all.indexOf(cell);
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -COLUMNS, ArrowDown: COLUMNS };
    const jumps = { Home: at - at % COLUMNS, End: Math.min(at - at % COLUMNS + COLUMNS - 1, all.length - 1) };
    if (event.key in steps || event.key in jumps) {
      let to = event.key in jumps ? jumps[event.key] : at + steps[event.key];
      while (all[to] && !focusable(all[to]).id) to += steps[event.key] || 1;
      if (!all[to]) return;
      event.preventDefault();
      if (event.shiftKey && "choose" in map().dataset) toggle(all[to], true);
      enter(all[to]);
    } else if ((event.key === " " || event.key === "Enter") && !cell.querySelector("a")) {
      event.preventDefault();
      if ("choose" in map().dataset) toggle(cell, event.shiftKey);
      else if (focusable(cell).id) location.assign(`/networks/${map().dataset.network}/addresses/${nameOf(cell)}`);
    }
  });

  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("#map a") : null;
    if (link && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      look(link);
      return;
    }
    const cell = cellOf(event.target);
    if (!cell || cell.querySelector("a") || !focusable(cell).id) return;
    enter(cell);
    if ("choose" in map().dataset) toggle(cell, event.shiftKey);
  });

  for (const kind of ["focusin", "mouseover"]) {
    document.addEventListener(kind, (event) => {
      const cell = cellOf(event.target);
      if (cell) tell(cell);
    });
  }

  function ready() {
    const part = map();
    if (!part) return;
    const sought = part.dataset.sought && document.getElementById(`c${part.dataset.sought}`);
    if (sought && !part.dataset.found) {
      part.dataset.found = "1";
      enter(sought.closest("td"));
    }
    if (!part.querySelector('[tabindex="0"]:not(.scrolls)')) {
      const first = cells().find((cell) => focusable(cell).id);
      if (first) focusable(first).tabIndex = 0;
    }
    show();
  }

  document.addEventListener("htmx:afterSettle", ready);
  document.addEventListener("input", (event) => { if (event.target === chosenField()) show(); });
  window.addEventListener("popstate", () => location.reload());
  ready();
})();
