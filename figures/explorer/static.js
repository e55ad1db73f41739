"use strict";
(async () => {
  const parsed = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = parsed("data");
  const unpacked = (text, Kind) =>
    new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const lines = {}, shares = {};
  for (const name of data.policies) {
    const packed = data.lines[name];
    lines[name] = {
      ends: unpacked(packed.ends, Uint32Array),
      position: unpacked(packed.position, Uint32Array),
      value: unpacked(packed.log_error, Float32Array),
    };
    shares[name] = unpacked(data.shares[name], Float32Array);
  }
  const fractions = data.stops.keep_fraction;
  const sliders = Object.keys(data.stops);
  const start = {
    alpha_total: 20, theta_deg: 20, redundancy: 1, downstream_deg: 0, keep_fraction: 0.2,
    policy: ["hard", "random", "easy"],
  };
  const byId = (id) => document.getElementById(id);
  const boxes = [...document.querySelectorAll("input[name=policy]")];

  // The polynomial through the nodes around a place; `interpolate` of table.py is the same.
  function interpolated({ ends, position, value }, line, at) {
    const first = ends[line], stop = ends[line + 1];
    let low = first, high = stop;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (position[middle] < at) { low = middle + 1; } else { high = middle; }
    }
    const from = Math.min(Math.max(low - data.points / 2, first), stop - data.points);
    let total = 0;
    for (let i = from; i < from + data.points; i++) {
      let weight = 1;
      for (let j = from; j < from + data.points; j++) {
        if (j !== i) { weight *= (at - position[j]) / (position[i] - position[j]); }
      }
      total += weight * value[i];
    }
    return total;
  }

  const nearest = (stops, value) => {
    let best = 0;
    stops.forEach((stop, k) => {
      if (Math.abs(stop - value) < Math.abs(stops[best] - value)) { best = k; }
    });
    return best;
  };

  function errorOf(state, policy, k) {
    const distinct = state.alpha_total / state.redundancy;
    const random = policy === "random";
    const alpha = random ? distinct * (1 - (1 - fractions[k]) ** state.redundancy) : distinct;
    const [low, high] = random ? data.kept_alphas : data.alphas;
    const at = data.last * Math.log(alpha / low) / Math.log(high / low);
    const line = random ? 0 : nearest(data.stops.theta_deg, state.theta_deg) * fractions.length + k;
    const error = Math.exp(interpolated(lines[policy], line, Math.min(Math.max(at, 0), data.last)));
    // Half angles keep the digits of small errors.
    const shift = state.downstream_deg * Math.PI / 180;
    const square = Math.sin(shift / 2) ** 2 + Math.cos(shift) * Math.sin(Math.PI * error / 2) ** 2;
    return 2 / Math.PI * Math.asin(Math.sqrt(square));
  }

  const clipped = (text) => text.length > 60 ? `${text.slice(0, 60)}...` : text;

  // The state in the sliders' order; a stop that the address misses is the nearest one.
  function ofAddress() {
    const state = structuredClone(start), said = [];
    const asked = new URLSearchParams(location.hash.slice(1));
    const policies = asked.getAll("policy");
    for (const name of new Set(asked.keys())) {
      if (name === "policy") { continue; }
      if (!sliders.includes(name)) {
        said.push(`the address names ${clipped(name)}, which this page does not have`);
        continue;
      }
      const text = asked.get(name), value = Number(text), stops = data.stops[name];
      if (text.trim() === "" || !(value >= stops[0] && value <= stops.at(-1))) {
        said.push(
          `${name} = ${clipped(text)} is not a number from ${stops[0]} to ${stops.at(-1)}`);
      } else {
        state[name] = stops[nearest(stops, value)];
        if (state[name] !== value) {
          said.push(`${name} = ${value} is not in the table, the nearest is ${state[name]}`);
        }
      }
    }
    const unknown = policies.filter((name) => !data.policies.includes(name));
    if (unknown.length) { said.push(`there is no policy ${clipped(unknown.join(", "))} here`); }
    const known = data.policies.filter((name) => policies.includes(name));
    if (known.length) { state.policy = known; }
    byId("trouble").hidden = !said.length;
    byId("trouble").textContent = said.length ? `${said.join("; ")}.` : "";
    return state;
  }

  function take(state) {
    for (const name of sliders) {
      const slider = byId(name);
      slider.min = 0;
      slider.max = data.stops[name].length - 1;
      slider.step = 1;
      slider.value = nearest(data.stops[name], state[name]);
    }
    for (const box of boxes) { box.checked = state.policy.includes(box.value); }
  }

  function state() {
    const now = { policy: boxes.filter((box) => box.checked).map((box) => box.value) };
    for (const name of sliders) { now[name] = data.stops[name][Number(byId(name).value)]; }
    return now;
  }

  const shown = (value) => String(Number(value.toPrecision(4)));

  const plots = await Promise.all([
    Bokeh.embed.embed_item(parsed("above")), Bokeh.embed.embed_item(parsed("below")),
  ]);
  const model = (name) => {
    for (const one of Bokeh.documents) {
      const found = one.get_model_by_name(name);
      if (found != null) { return found; }
    }
    throw new Error(`the page lacks ${name}`);
  };

  function draw() {
    const now = state();
    const k = fractions.indexOf(now.keep_fraction);
    const angle = data.stops.theta_deg.indexOf(now.theta_deg);
    for (const name of sliders) {
      byId(name).setAttribute("aria-valuetext", String(now[name]));
      document.querySelector(`output[for=${name}]`).textContent = String(now[name]);
    }
    byId("at").textContent = String(now.keep_fraction);
    const rows = [];
    let least = Infinity, greatest = 0, tallest = 0;
    for (const name of data.policies) {
      const on = now.policy.includes(name);
      const errors = on ? fractions.map((_, j) => errorOf(now, name, j)) : [];
      const place = (angle * fractions.length + k) * data.bins;
      const part = on ? Array.from(shares[name].subarray(place, place + data.bins)) : [];
      model(`curve ${name}`).data = { x: on ? fractions.slice() : [], y: errors };
      const best = errors.indexOf(Math.min(...errors));
      model(`best ${name}`).data = on ? { x: [fractions[best]], y: [errors[best]] } : { x: [], y: [] };
      const ends = Array.from({ length: data.bins + 1 }, (_, j) => 4 * j / data.bins);
      model(`margins ${name}`).data = on ? { x: ends, y: [...part, part.at(-1)] } : { x: [], y: [] };
      if (!on) { continue; }
      least = Math.min(least, ...errors);
      greatest = Math.max(greatest, ...errors);
      tallest = Math.max(tallest, ...part);
      const cells = [fractions[best], errors[best], errors[k], errors.at(-1)].map(shown);
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      row.append(head, ...cells.map((text) => {
        const cell = document.createElement("td");
        cell.textContent = text;
        return cell;
      }));
      rows.push(row);
    }
    byId("best").replaceChildren(...rows);
    if (rows.length) {
      model("errors shown").setv({ start: least / 1.3, end: Math.min(1.05, greatest * 1.3) });
      model("shares shown").end = tallest * 1.1;
    }
    model("fraction shown").location = now.keep_fraction;
    const address = new URLSearchParams();
    for (const name of sliders) { address.set(name, now[name]); }
    for (const name of now.policy) { address.append("policy", name); }
    try {
      history.replaceState(null, "", `#${address}`);
    } catch {
      // A frame without an address, or a browser that finds the changes too many, keeps none.
    }
    document.body.dataset.shown = String(address);
  }

  take(ofAddress());
  draw();
  byId("undrawn").hidden = true;
  const moved = () => {
    byId("trouble").hidden = true;
    draw();
  };
  for (const name of sliders) { byId(name).addEventListener("input", moved); }
  for (const box of boxes) { box.addEventListener("change", moved); }
  window.addEventListener("hashchange", () => { take(ofAddress()); draw(); });
})();
