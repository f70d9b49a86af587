// The paired statistics of benchmark/pages/statistics.py, for two rows that nobody paired before; a test holds the two equal.
window.statistics = (function () {
  "use strict";

  function estimate(values) {
    const n = values.length;
    const mean = values.reduce((sum, value) => sum + value, 0) / n;
    if (n < 2) return { n, mean, low: null, high: null };
    const sd = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1));
    const reach = (window.QUANTILES[n - 2] * sd) / Math.sqrt(n);
    return { n, mean, low: mean - reach, high: mean + reach };
  }

  // The seeds in which two rows were tested on the same images and, at the same N, trained on the same ones.
  function common(a, b) {
    return Object.keys(a.seeds).filter((seed) => {
      const [one, other] = [a.seeds[seed], b.seeds[seed]];
      return other && one.test === other.test && (a.subset !== b.subset || one.train === other.train);
    });
  }

  // A trajectory is a list of [step, PSNR train, PSNR test, gap].
  function gapAt(trajectory, level) {
    const points = [...trajectory].sort((one, other) => one[0] - other[0]);
    let before = points[0];
    if (before[1] >= level) return before[1] === level ? before[3] : null;
    for (const after of points.slice(1)) {
      if (after[1] >= level) return before[3] + ((level - before[1]) / (after[1] - before[1])) * (after[3] - before[3]);
      before = after;
    }
    return null;
  }

  function equalFit(a, b) {
    if (!a.length || !b.length) return null;
    const level = Math.min(...[a, b].map((side) => Math.max(...side.map((point) => point[1]))));
    const gaps = [gapAt(a, level), gapAt(b, level)];
    return gaps.includes(null) ? null : gaps[0] - gaps[1];
  }

  // Each reading: a name, and the difference a - b of one seed, null where there is none.
  function readings(a, b) {
    const found = [
      ["gap at equal steps", (one, other) => one.gap - other.gap],
      ["gap at equal fit (PSNR train)", (one, other) => equalFit(one.trajectory, other.trajectory)],
    ];
    const names = new Set(Object.values(a.seeds).flatMap((one) => Object.keys(one.readings)));
    for (const name of names) {
      found.push([name, (one, other) => (name in one.readings && name in other.readings ? one.readings[name] - other.readings[name] : null)]);
    }
    found.push(["PSNR test", (one, other) => one.psnr_test - other.psnr_test]);
    return found;
  }

  function paired(a, b) {
    const seeds = common(a, b);
    return readings(a, b).map(([name, difference]) => {
      const values = seeds.map((seed) => difference(a.seeds[seed], b.seeds[seed])).filter((value) => value !== null);
      return { name, values, estimate: values.length ? estimate(values) : null };
    });
  }

  return { estimate, common, equalFit, paired };
})();
