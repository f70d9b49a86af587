// Any two rows, paired by seed.
(function () {
  "use strict";
  const form = document.getElementById("choice");
  const rows = bench.taken("rows"); // [page, board, title]
  const said = document.getElementById("said");
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);

  function fill(select, values, wanted) {
    select.replaceChildren(...values.map(([value, title]) => bench.element("option", title, { value })));
    if (values.some(([value]) => value === wanted)) select.value = wanted;
  }

  function choose() {
    const inside = rows.filter((row) => row[1] === form.board.value).map(([page, , title]) => [page, title]);
    const state = bench.state();
    fill(form.a, inside, state.get("a"));
    fill(form.b, inside, state.get("b"));
    if (form.a.value === form.b.value && inside.length > 1) form.b.value = inside.find(([page]) => page !== form.a.value)[0];
  }

  function table(id, head, lines, nothing) {
    const host = document.getElementById(id);
    const top = document.createElement("thead"), line = document.createElement("tr"), body = document.createElement("tbody");
    line.append(...head.map((title) => bench.element("th", title, { scope: "col" })));
    top.append(line);
    for (const cells of lines) {
      const made = document.createElement("tr");
      made.append(...cells.map((cell, place) => { const one = bench.element(place ? "td" : "th", null, place ? {} : { scope: "row" }); one.append(bench.element("bdi", cell)); return one; }));
      body.append(made);
    }
    if (!lines.length) {
      const made = document.createElement("tr");
      made.append(bench.element("td", nothing));
      body.append(made);
      host.replaceChildren(body);
      return;
    }
    host.replaceChildren(top, body);
  }

  function differing(one, other) {
    const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])];
    return keys.filter((key) => one[key] !== other[key]).map((key) => [key, one[key] ?? "–", other[key] ?? "–"]);
  }

  // A record carries one digest of all its code. Which files differ is told by the files that are here, where that code is here.
  function code(a, b) {
    if (!a.code.digest || !b.code.digest) return [[], "Not known: a record of one of them carries no digest of its code."];
    if (a.code.digest === b.code.digest) return [[], "Nothing: the same digest of all code."];
    const gone = [a, b].filter((row) => !row.files.length).map((row) => row.title + ` (${row.standing})`);
    if (gone.length) return [differing(a.code, b.code), "Which files differ is not known: the code that made " + gone.join(" and ") + " is not here, and a record keeps one digest of it all."];
    const only = (one, other) => one.files.filter((file) => !other.files.includes(file)).map((file) => [file, one === a ? "rests on it" : "–", one === a ? "–" : "rests on it"]);
    const files = [...only(a, b), ...only(b, a)];
    const earlier = [a, b].some((row) => row.standing === "equivalent code") ? " Made by earlier code, which the ledger of equivalent code shows to give the same numbers; the files are those of today." : "";
    return [[...differing(a.code, b.code), ...files], (files.length ? `${files.length} file(s) of the entries; all other code is shared.` : "No file: both rest on the same ones.") + earlier];
  }

  function samples(a, b) {
    const host = document.getElementById("samples");
    host.hidden = !(a.samples && b.samples);
    host.querySelector(".pair").replaceChildren(...(host.hidden ? [] : [a, b].map((row) => {
      const figure = bench.element("figure");
      figure.append(bench.element("img", null, { src: bench.root + row.samples, alt: "Samples of " + row.title }), bench.element("figcaption", row.title));
      return figure;
    })));
  }

  function show(a, b) {
    const lines = statistics.paired(a, b).map((one) => {
      if (!one.estimate) return [one.name, "–", "no common level or seed", "0", ""];
      const { mean, low, high, n } = one.estimate;
      const word = low === null ? "one seed: no interval" : low > 0 ? "higher" : high < 0 ? "lower" : "not separated";
      return [one.name, signed(mean) + " dB", low === null ? "–" : `[${signed(low)}, ${signed(high)}]`, String(n), word];
    });
    document.getElementById("compared").hidden = false;
    table("differences", ["reading", "difference", "95% interval", "seeds", a.title + " is"], lines, "");
    said.textContent = `${a.title} less ${b.title}. ${statistics.common(a, b).length} seeds in common.` + [a, b].filter((row) => row.mark).map((row) => ` ${row.title} is ${row.mark}`).join("");
    charts.curves([a, b]);
    charts.trajectory([a, b]);
    samples(a, b);
    table("specs", ["field", a.title, b.title], differing(a.spec, b.spec), "Nothing: the same spec.");
    const [parts, words] = code(a, b);
    table("code", ["part", a.title, b.title], parts, "No part of it is known to differ.");
    document.getElementById("codesaid").textContent = words;
  }

  async function compare() {
    const wanted = [form.a.value, form.b.value];
    bench.keep(new URLSearchParams({ a: wanted[0], b: wanted[1] }));
    const [a, b] = await Promise.all(wanted.map((page) => bench.load(page + ".js", page)));
    if (form.a.value === wanted[0] && form.b.value === wanted[1]) show(a, b); // no other row was chosen meanwhile
  }

  function start() {
    const first = rows.find((row) => row[0] === bench.state().get("a")) || rows[0];
    if (!first) { said.textContent = "There is no row yet."; return; }
    fill(form.board, [...new Set(rows.map((row) => row[1]))].map((board) => [board, board]), first[1]);
    choose();
    compare();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => { if (event.target === form.board) choose(); compare(); });
  window.addEventListener("hashchange", () => { if (bench.state().get("a") !== form.a.value || bench.state().get("b") !== form.b.value) start(); });
  start();
})();
