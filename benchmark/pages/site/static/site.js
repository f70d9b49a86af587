// Runs before the page is drawn: light or dark, and the store through which data scripts hand over what they hold.
(function () {
  "use strict";
  const root = document.currentScript.dataset.root;
  const GROUNDS = ["auto", "light", "dark"];
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const store = { value: "auto" };
  try { store.value = localStorage.getItem("ground") || "auto"; } catch { /* no storage: the choice lasts as long as the page */ }

  function apply() {
    const dark = store.value === "dark" || (store.value === "auto" && system.matches);
    document.documentElement.classList.toggle("dark", dark);
    document.dispatchEvent(new Event("ground"));
  }

  function button() {
    const one = document.getElementById("ground");
    const name = () => { one.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[store.value]; one.setAttribute("aria-label", "Light or dark: " + store.value); };
    one.addEventListener("click", () => {
      store.value = GROUNDS[(GROUNDS.indexOf(store.value) + 1) % GROUNDS.length];
      try { localStorage.setItem("ground", store.value); } catch { /* as above */ }
      apply(); name();
    });
    name();
  }

  const held = new Map();
  let own = null;
  window.bench = {
    root,
    put(key, value) { held.set(key, value); },
    taken(key) { return held.get(key); },
    // Resolves to what the data script at `path` puts under `key`; the same script is loaded once.
    load(path, key) {
      if (held.has(key)) return Promise.resolve(held.get(key));
      return new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = root + path.split("/").map(encodeURIComponent).join("/");
        script.onload = () => (held.has(key) ? resolve(held.get(key)) : reject(new Error(path + " holds no " + key)));
        script.onerror = () => reject(new Error(path + " is not there"));
        document.head.append(script);
      });
    },
    colour(name) { return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim(); },
    element(tag, text, attributes) {
      const made = document.createElement(tag);
      if (text !== undefined && text !== null) made.textContent = text;
      for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
      return made;
    },
    // The state of a view in the address, so that a link restores it.
    state() { return new URLSearchParams(location.hash.slice(1)); },
    keep(state) {
      for (const [key, value] of [...state]) if (!value) state.delete(key);
      const wanted = "#" + state;
      if (location.hash !== wanted) location.replace(wanted);
      own = location.hash;
    },
    // Whether the address is another one than the page itself wrote last: a link was followed or pasted.
    moved() { return location.hash !== own; },
  };

  async function copy(text, from) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // a page from a file may not use the clipboard
      const area = bench.element("textarea", text);
      document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
    }
    const before = from.textContent;
    from.textContent = "Copied";
    setTimeout(() => { from.textContent = before; }, 1500);
  }
  window.bench.copy = copy;

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    button();
    for (const one of document.querySelectorAll("[data-copy]")) {
      one.addEventListener("click", () => copy(document.getElementById(one.dataset.copy).textContent, one));
    }
  });
})();
