// Keeps what is shown up to date: listens to what happens, and reads anew those parts of the page that it is
// about. While the server is away it says so, and tries again by itself.
"use strict";
(() => {
  const QUIET_MS = 300;
  const AGAIN_MS = 2000;
  const due = new Map();
  let source = null;
  let away = false;

  const said = (id, text) => {
    const place = document.getElementById(id);
    if (place && place.textContent !== text) place.textContent = text;
  };

  function banner(text) {
    const place = document.getElementById("connection");
    if (!place) return;
    place.hidden = !text;
    said("connection", text);
  }

  function concerns(part, row) {
    const about = part.dataset.live;
    const kind = row.event.split(".")[0];
    return about === "*" || about === row.network || (about === "networks" && kind !== "dead")
      || (about === "nodes" && kind === "node") || (about === "dead" && kind === "dead");
  }

  function refresh(part) {
    const key = part.id;
    if (!key || due.has(key)) return;
    due.set(key, setTimeout(() => {
      due.delete(key);
      const place = document.getElementById(key);
      if (!place) return;
      const path = place.dataset.src || location.pathname + location.search;
      // Its own source: of requests with one source htmx keeps the first and the last alone.
      htmx.ajax("GET", path, { source: place, target: place, select: `#${key}`, swap: "outerHTML" });
    }, QUIET_MS));
  }

  function refreshAll() {
    document.querySelectorAll("[data-live]").forEach(refresh);
  }

  function listen() {
    if (source || !document.querySelector("[data-live], [data-events]")) return;
    const list = document.querySelector("[data-events]");
    const network = list ? list.dataset.events : "";
    const query = new URLSearchParams({ network, after: document.body.dataset.after || "" });
    source = new EventSource(`/events/stream?${query}`);
    source.onopen = () => {
      said("live-state", "live");
      if (away) refreshAll();
      away = false;
    };
    source.onerror = () => {
      said("live-state", "live is off: trying again");
      away = true;
      if (source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(listen, AGAIN_MS);
      }
    };
    source.addEventListener("missed", refreshAll);
    source.addEventListener("row", (event) => {
      const row = JSON.parse(event.data);
      document.dispatchEvent(new CustomEvent("moorage:row", { detail: row }));
      document.querySelectorAll("[data-live]").forEach((part) => { if (concerns(part, row)) refresh(part); });
    });
  }

  // A part that could not be read stays as it was: what it says is old, and that is said.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const answer = event.detail.xhr;
    if (answer.status < 500 || !event.detail.target || !event.detail.target.matches("[data-live]")) return;
    event.detail.shouldSwap = false;
    banner("What is shown is not up to date: RabbitMQ or the allocator is away. Trying again.");
    setTimeout(refreshAll, AGAIN_MS);
  });
  document.addEventListener("htmx:sendError", () => {
    banner("The console cannot be reached. Trying again.");
    setTimeout(refreshAll, AGAIN_MS);
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) banner("");
  });
  function stop() {
    if (source) source.close();
    source = null;
  }

  // A browser has six connections to one server, and a page that nobody looks at needs none of them.
  document.addEventListener("visibilitychange", () => {
    if (document.querySelector("[data-events]")) return;
    if (document.hidden) {
      stop();
      return;
    }
    listen();
    refreshAll();
  });
  window.addEventListener("pagehide", stop);
  listen();
})();
