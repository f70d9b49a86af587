// Curves with plotly, in the page's colours; drawn again when the page turns light or dark.
window.charts = (function () {
  "use strict";
  const drawn = new Map();

  // `below`: the title of a second scale under the first, of what is too small to be read on it.
  function layout(x, y, below) {
    const [ink, line] = [bench.colour("ink"), bench.colour("line")];
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 13 },
      margin: { l: 55, r: 15, t: 10, b: 45 }, hovermode: "x unified", hoverlabel: { bgcolor: bench.colour("raised") },
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom" },
      xaxis: { ...axis, title: { text: x } }, yaxis: { ...axis, title: { text: y } },
      ...(below ? { xaxis: { ...axis, title: { text: x }, anchor: "y2" }, yaxis: { ...axis, title: { text: y }, domain: [0.36, 1] }, yaxis2: { ...axis, title: { text: below }, domain: [0, 0.28], rangemode: "tozero" } } : {}),
    };
  }

  function draw(place, traces, x, y, label, below) {
    const host = document.getElementById(place);
    host.setAttribute("aria-label", label);
    const coloured = traces().map((trace) => ({ hovertemplate: "%{y:.3f}", ...trace, type: "scatter" }));
    const named = coloured.filter((trace) => trace.showlegend !== false).length;
    host.style.height = host.clientWidth < 600 && named > 3 ? `${360 + 20 * named}px` : ""; // on a phone the legend has a line for each
    Plotly.react(host, coloured, layout(x, y, below), { responsive: true, displayModeBar: false });
    drawn.set(place, () => draw(place, traces, x, y, label, below));
  }

  const COLOURS = ["first", "second"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down"]; // of the seeds of one row

  // Rows as handed over by their data scripts: PSNR train and test, and the gap, over the diffusion steps.
  function curves(rows) {
    const traces = () => rows.flatMap((row, place) => {
      const colour = bench.colour(COLOURS[place]);
      const of = rows.length > 1 ? row.title + ", " : "";
      return [["train", "solid", "PSNR train"], ["test", "dash", "PSNR test"], ["gap", "dot", "gap"]].map(([key, dash, name]) => ({
        x: row.curves.diffusion_steps, y: row.curves[key], name: of + name, mode: "lines", line: { color: colour, dash },
        ...(key === "gap" ? { yaxis: "y2" } : {}),
      }));
    });
    draw("curves", traces, "diffusion step t", "dB", "PSNR on training and on test images, and their gap, over the diffusion steps", "gap, dB");
  }

  function trajectory(rows) {
    const traces = () => rows.flatMap((row, place) => Object.entries(row.seeds).filter(([, one]) => one.trajectory.length).map(([seed, one], line) => ({
      x: one.trajectory.map((point) => point[1]), y: one.trajectory.map((point) => point[3]), text: one.trajectory.map((point) => "step " + point[0]),
      hovertemplate: `seed ${seed}: gap %{y:.3f} at PSNR train %{x:.2f}, %{text}`, name: rows.length > 1 ? row.title : "seed " + seed,
      ...(rows.length > 1 ? { legendgroup: row.title, showlegend: line === 0 } : {}), // of two rows, one entry each
      mode: "lines+markers", line: { color: bench.colour(COLOURS[place]) }, opacity: 0.8,
      ...(rows.length > 1 ? {} : { marker: { symbol: SYMBOLS[line % SYMBOLS.length], size: 8 } }),
    })));
    const host = document.getElementById("trajectory");
    if (!rows.some((row) => Object.values(row.seeds).some((one) => one.trajectory.length))) {
      host.replaceChildren(bench.element("p", "No trajectory: these rows were not trained here, or in no step."));
      host.removeAttribute("role"); host.style.height = "auto";
      return;
    }
    draw("trajectory", traces, "PSNR train, dB", "gap, dB", "The gap against PSNR on training images along the training, a line a seed");
  }

  document.addEventListener("ground", () => { for (const again of drawn.values()) again(); });
  return { curves, trajectory, row(one) { curves([one]); trajectory([one]); } };
})();
