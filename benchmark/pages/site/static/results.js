// The table of one recipe, dataset and metric version at one N. Whatever a record says becomes text, never markup.
(function () {
  "use strict";
  if (!window.SECTIONS.length) return;
  const form = document.getElementById("filters");
  const names = Object.keys(window.FIELDS);
  const at = Object.fromEntries(names.map((name, place) => [name, place]));
  const [PAGE, PAPER, CLOSED] = [0, 1, 2].map((place) => names.length + place);
  const HEADS = {
    rank: "rank", model: "model", layout: "layout", gap: "gap, dB", difference: "gap − global", at_equal_fit: "equal fit", psnr_test: "test PSNR", membership: "membership", best_stop: "best stop",
    psnr_train: "train PSNR", published: "published", badge: "checked", seeds: "seeds", parameters: "params", flops: "FLOPs", hours: "hours", date: "date", who: "who",
  };
  const ESTIMATES = new Set(["gap", "difference", "at_equal_fit", "membership", "best_stop", "psnr_test", "psnr_train"]);
  const MORE = new Set(["psnr_train", "flops", "hours"]);
  const NONE = "–";
  const text = (value, digits) => value.toFixed(digits).replace("-", "−");
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);
  let table = null, data = null, current = null, chosen = [];

  const amount = (value) => {
    for (const [factor, prefix] of [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]]) if (value >= factor) return (value / factor).toPrecision(3) + prefix;
    return String(value);
  };

  // A mean with its interval, drawn on the scale of its column.
  // `judged`: below 0 is better, so that the side of the interval has a colour.
  function bar(value, scale, sign, judged) {
    const made = document.createDocumentFragment();
    const form = sign ? signed : (one) => text(one, 3);
    made.append(form(value[0]));
    if (value[1] === null) { made.append(bench.element("span", "one seed", { class: "ends" })); return made; }
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "interval error"); svg.setAttribute("viewBox", "0 0 100 12"); svg.setAttribute("preserveAspectRatio", "none"); svg.setAttribute("aria-hidden", "true");
    const x = (one) => ((one - scale[0]) / (scale[1] - scale[0] || 1)) * 96 + 2;
    const side = judged ? "side" + ((value[1] > 0) - (value[2] < 0)) : "";
    const part = (tag, attributes) => { const one = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const [k, v] of Object.entries(attributes)) one.setAttribute(k, v); svg.append(one); };
    if (sign) part("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: 12 });
    part("line", { class: side, x1: x(value[1]), x2: x(value[2]), y1: 6, y2: 6 });
    part("rect", { class: side, x: x(value[0]) - 1.5, y: 2, width: 3, height: 8 });
    if (value[1] >= scale[0] && value[2] <= scale[1]) made.append(svg); // what is fitted in closed form may lie far off
    made.append(bench.element("span", `[${form(value[1])}, ${form(value[2])}]`, { class: "ends" }));
    return made;
  }

  // The scale of a column's bars: the trained rows set it.
  function scaleOf(name, sign) {
    const trained = data.rows.filter((row) => !row[CLOSED]);
    const ends = (trained.length ? trained : data.rows).flatMap((row) => (row[at[name]] && row[at[name]][1] !== null ? row[at[name]].slice(1, 3) : []));
    if (sign) ends.push(0);
    return ends.length ? [Math.min(...ends), Math.max(...ends)] : [0, 1];
  }

  const wrapped = (...parts) => { const made = document.createElement("span"); made.append(...parts); return made; };

  function cell(name, scales) {
    const show = {
      rank: (value) => (value ? (value[0] === value[1] ? String(value[0]) : `${value[0]}–${value[1]}`) : NONE),
      gap: (value) => wrapped(bar(value, scales.gap, false)),
      difference: (value) => (value ? wrapped(bar(value, scales.difference, true, true)) : NONE),
      at_equal_fit: (value) => (value ? wrapped(bar(value, scales.at_equal_fit, true, true)) : NONE),
      membership: (value) => (value ? wrapped(bar(value, scales.membership, true)) : NONE),
      best_stop: (value) => (value ? text(value[0], 2) : NONE),
      psnr_test: (value) => text(value[0], 2),
      psnr_train: (value) => text(value[0], 2),
      published: (value) => (value === null ? NONE : text(value, 2)),
      badge: (value) => { const made = document.createElement("span"); for (const one of value) made.append(bench.element("span", one, { class: "badge " + one.replace(/ /g, "-") }), " "); return made; },
      parameters: amount, flops: amount, hours: (value) => value.toPrecision(2),
      model: (value, row) => { const link = bench.element("a", value, { href: row[PAGE] }); return row[CLOSED] ? wrapped(link, bench.element("small", "closed form")) : link; },
      who: (value, row) => (row[PAPER] && /^https?:\/\//.test(row[PAPER]) ? bench.element("a", value, { href: row[PAPER], rel: "noopener nofollow" }) : value),
    }[name] || ((value) => String(value));
    return (value, type, row) => {
      if (type === "display") { const made = show(value, row); return typeof made === "string" ? bench.element("bdi", made) : made; }
      if (name === "rank") return value ? value[0] * 1e5 + value[1] : 1e12;
      if (type === "filter") return Array.isArray(value) ? value.join(" ") : String(value ?? "");
      return Array.isArray(value) ? (typeof value[0] === "number" ? value[0] : value.join(" ")) : value ?? Infinity;
    };
  }

  const empty = (name) => data.rows.every((row) => row[at[name]] === null || row[at[name]] === "");

  function pick(row) {
    const box = bench.element("input", null, { type: "checkbox", "aria-label": `Compare ${row[at.model]} ${row[at.layout]}` });
    box.checked = chosen.includes(row[PAGE]);
    box.addEventListener("change", () => {
      chosen = chosen.filter((one) => one !== row[PAGE]);
      if (box.checked) chosen.push(row[PAGE]);
      for (const gone of chosen.splice(0, Math.max(0, chosen.length - 2))) for (const one of document.querySelectorAll("#board input:checked")) if (one.dataset.page === gone) one.checked = false;
      compared();
    });
    box.dataset.page = row[PAGE];
    return box;
  }

  function compared() {
    const link = document.getElementById("compared");
    const paths = chosen.map((page) => decodeURIComponent(page).replace(/\.html$/, ""));
    link.href = "compare.html" + (paths.length ? "#" + new URLSearchParams(paths.length > 1 ? { a: paths[0], b: paths[1] } : { a: paths[0] }) : "");
    link.textContent = chosen.length === 2 ? "Compare the two chosen rows" : `Compare two rows (${chosen.length} of 2 chosen)`;
  }

  function kept(row) {
    const most = (name) => Number(form[name].value.replace(/[^\d.e]/gi, "")) || Infinity;
    return (!form.model.value || row[at.model] === form.model.value) && (!form.layout.value || row[at.layout] === form.layout.value) &&
      row[at.parameters] <= most("parameters") && row[at.hours] <= most("hours");
  }

  function build(order) {
    if (table) table.destroy();
    const host = bench.element("table", null, { class: "display compact" });
    document.getElementById("board").replaceChildren(host);
    const scales = { gap: scaleOf("gap", false), difference: scaleOf("difference", true), at_equal_fit: scaleOf("at_equal_fit", true), membership: scaleOf("membership", true) };
    const columns = names.map((name) => ({
      title: HEADS[name], name, data: at[name], render: cell(name, scales), visible: !empty(name) && (form.more.checked || !MORE.has(name)),
      type: ["model", "layout", "badge", "date", "who"].includes(name) ? "string" : "num",
    }));
    columns.unshift({ title: "pick", name: "pick", data: null, orderable: false, searchable: false, render: (_, type, row) => (type === "display" ? pick(row) : "") });
    const [name, way] = (order || "rank.asc").split(".");
    const by = columns.findIndex((column) => column.name === name);
    table = new DataTable(host, {
      data: data.rows, columns, order: [[by < 0 ? 1 : by, way === "desc" ? "desc" : "asc"]], pageLength: 50, autoWidth: false,
      layout: { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: data.rows.length > 50 ? "paging" : null },
      language: { emptyTable: "No row is like that.", zeroRecords: "No row is like that." },
    });
    table.search.fixed("form", (_, row) => kept(row));
    table.on("order", remember);
    for (const column of columns) explain(column);
    narrow();
  }

  function explain(column) {
    const head = table.column(column.name + ":name").header();
    const help = window.FIELDS[column.name] || "Choose two rows to compare them.";
    head.title = help;
    for (const event of ["mouseenter", "focusin"]) head.addEventListener(event, () => { document.getElementById("explained").textContent = column.title + ": " + help; });
  }

  function narrow() {
    table.search(form.q.value).draw();
    remember();
  }

  function remember() {
    const [[by, way]] = table.order().length ? table.order() : [[1, "asc"]];
    const state = new URLSearchParams({ board: form.board.value, n: String(current.n) });
    for (const name of ["model", "layout", "parameters", "hours", "q"]) state.set(name, form[name].value);
    state.set("more", form.more.checked ? "1" : "");
    state.set("order", table.settings()[0].aoColumns[by].sName + "." + way);
    bench.keep(state);
  }

  function options(select, values, wanted) {
    select.replaceChildren(bench.element("option", "all", { value: "" }), ...[...new Set(values)].sort().map((one) => bench.element("option", one, { value: one })));
    select.value = values.includes(wanted) ? wanted : "";
  }

  function quality() {
    const shown = data.quality;
    document.getElementById("quality").hidden = !shown.columns.length;
    const host = document.querySelector("#quality table");
    const head = document.createElement("thead"), body = document.createElement("tbody"), line = document.createElement("tr");
    line.append(bench.element("th", "row", { scope: "col" }), ...shown.columns.map((column) => bench.element("th", column.title, { scope: "col", title: column.help })));
    head.append(line);
    shown.rows.forEach((cells, place) => {
      const made = document.createElement("tr");
      made.append(bench.element("th", data.rows[place][at.model] + " " + data.rows[place][at.layout], { scope: "row" }), ...cells.map((one) => bench.element("td", one)));
      body.append(made);
    });
    host.replaceChildren(head, body);
    const about = bench.element("ul", null, { class: "note" });
    about.append(...shown.columns.map((column) => bench.element("li", column.help)));
    document.querySelector("#quality ul")?.remove();
    host.parentElement.after(about);
  }

  async function open(state) {
    const section = window.SECTIONS.find((one) => one.key === state.get("board")) || window.SECTIONS[0];
    form.board.value = section.key;
    current = section.tables.find((one) => String(one.n) === state.get("n")) || section.tables[0];
    document.getElementById("about").textContent = section.about;
    document.getElementById("subsets").replaceChildren(...section.tables.map((one) => {
      const label = bench.element("label"), radio = bench.element("input", null, { type: "radio", name: "n", value: one.n });
      radio.checked = one === current;
      label.append(radio, one.n.toLocaleString("en"));
      return label;
    }));
    const wanted = current, loaded = await bench.load(wanted.script, wanted.script);
    if (wanted !== current) return; // another table was asked for meanwhile
    data = loaded;
    options(form.model, data.rows.map((row) => row[at.model]), state.get("model"));
    options(form.layout, data.rows.map((row) => row[at.layout]), state.get("layout"));
    for (const name of ["parameters", "hours", "q"]) form[name].value = state.get(name) || "";
    form.more.checked = state.get("more") === "1";
    chosen = [];
    compared();
    build(state.get("order"));
    quality();
  }

  // What is shown, in its order, as plain values.
  function shown() {
    const rows = table.rows({ search: "applied", order: "applied" }).data().toArray();
    const interval = (value) => (value ? { mean: value[0], low: value[1], high: value[2] } : null);
    return rows.map((row) => Object.fromEntries(names.map((name) => {
      const value = row[at[name]];
      if (ESTIMATES.has(name)) return [name, interval(value)];
      return [name, name === "rank" ? (value ? { best: value[0], worst: value[1] } : null) : value];
    })));
  }

  function csv(rows) {
    // a text that a spreadsheet would take for a formula is given as text
    const quoted = (value) => {
      const plain = value === null || value === undefined ? "" : typeof value === "string" ? value.replace(/^[=+\-@\t\r]/, "'$&") : String(value);
      return /[",\n\r]/.test(plain) ? '"' + plain.replaceAll('"', '""') + '"' : plain;
    };
    const flat = rows.map((row) => Object.entries(row).flatMap(([name, value]) => {
      if (Array.isArray(value)) return [[name, value.join(" ")]];
      if (name === "rank") return [["rank_best", value && value.best], ["rank_worst", value && value.worst]];
      if (ESTIMATES.has(name)) return ["mean", "low", "high"].map((part) => [`${name}_${part}`, value && value[part]]);
      return [[name, value]];
    }));
    const head = ["board", "n", ...(flat[0] || []).map(([name]) => name)];
    return [head, ...flat.map((row) => [form.board.value, current.n, ...row.map(([, value]) => value)])].map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
  }

  function save(name, type, content) {
    const link = bench.element("a", null, { download: name, href: URL.createObjectURL(new Blob([content], { type })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const stem = () => `${form.board.value}-n${current.n}`;
  document.getElementById("csv").addEventListener("click", () => save(stem() + ".csv", "text/csv", csv(shown())));
  document.getElementById("json").addEventListener("click", () => save(stem() + ".json", "application/json", JSON.stringify({ board: form.board.value, n: current.n, rows: shown() }, null, 1)));
  document.getElementById("link").addEventListener("click", (event) => bench.copy(location.href, event.target));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target.name === "board") open(new URLSearchParams({ board: form.board.value, n: String(current.n) }));
    else if (event.target.name === "n") open(new URLSearchParams([...bench.state()].filter(([key]) => key !== "n").concat([["n", event.target.value]])));
    else if (event.target.name === "more") open(new URLSearchParams([...bench.state()].filter(([key]) => key !== "more").concat([["more", form.more.checked ? "1" : ""]])));
    else narrow();
  });
  window.addEventListener("hashchange", () => { if (bench.moved()) open(bench.state()); });
  open(bench.state());
})();
