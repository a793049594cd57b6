"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const kept = () => { try { return localStorage.getItem("prefkit-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const named = () => { button.textContent = isDark() ? "Light page" : "Dark page"; };
  if (kept() === "dark" || kept() === "light") root.dataset.theme = kept();
  button.hidden = false;
  named();
  dark.addEventListener("change", named);
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("prefkit-theme", root.dataset.theme); } catch { /* the page forgets it */ }
    named();
  });

  // In print, the tables behind the plots stay closed, but for those that were opened.
  const box = document.getElementById("examples-list");
  if (!box) return;
  const data = JSON.parse(document.getElementById("examples-data").textContent);
  const PAGE = 10;
  let shown = PAGE;
  let found = [];

  // Whatever comes from the data is set as text, never as markup.
  const el = (name, attributes, ...inside) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...inside.filter((one) => one !== null && one !== undefined));
    return made;
  };
  const svg = (name, attributes, ...inside) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };
  const field = (name) => document.getElementById(`filter-${name}`);
  const option = (select, value, words) => select.append(el("option", { value }, words));

  const names = [...new Set(data.examples.flatMap((one) => one.policies))].sort();
  const topics = [...new Set(data.examples.map((one) => one.topic).filter((one) => one !== null))].sort();
  names.forEach((name, place) => { option(field("policy"), String(place), name); option(field("winner"), String(place), name); });
  topics.forEach((topic, place) => option(field("topic"), String(place), topic));
  data.principles.forEach(([id, title], place) => {
    if (data.examples.some((one) => id in one.gaps)) option(field("principle"), String(place), title);
  });
  for (const name of ["topic", "principle"]) {
    if (field(name).options.length < 2) field(name).parentElement.hidden = true;
  }
  const searched = data.examples.map((one) => [
    one.topic, ...one.turns.map((turn) => turn.text), ...one.texts, ...one.policies, ...one.verdicts.map((said) => said.reason),
  ].filter(Boolean).join("\n").toLowerCase());

  const winner = (one) => (one.won === "tie" ? null : one.policies[one.won === "first" ? 0 : 1]);
  const pattern = (words) => {
    const each = words.split(/\s+/u).filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\]/gu, "\\$&"));
    return each.length ? new RegExp(`(${each.join("|")})`, "giu") : null;
  };

  // The words that are searched for stand out.
  const marked = (text, wanted) => {
    if (!wanted) return [text];
    return text.split(wanted).map((part, place) => (place % 2 ? el("mark", {}, part) : part)).filter((part) => part !== "");
  };

  const bar = (gap, reach) => {
    const at = 50 + 48 * Math.max(-1, Math.min(1, gap / reach));
    const [left, right] = gap > 0 ? [100 - at, 50] : [50, 100 - at];
    return svg("svg", { width: "100%", height: "22", "aria-hidden": "true", focusable: "false" },
      svg("line", { x1: "50%", x2: "50%", y1: "0", y2: "22", class: "grid" }),
      svg("rect", { x: `${Math.min(left, right)}%`, width: `${Math.abs(right - left)}%`, y: "6", height: "10", rx: "2",
        class: `diff mark ${gap > 0 ? "s0" : "s1"}` }));
  };

  const ratings = (one) => {
    const rows = data.principles.filter(([id]) => id in one.gaps);
    if (!rows.length) return null;
    const reach = Math.max(data.reach, ...rows.map(([id]) => Math.abs(one.gaps[id])));
    const made = el("div", { class: "ratings forest" },
      el("div", { class: "row" }, el("div", { class: "label" }, "Rated higher"),
        el("div", { class: "strip ends" }, el("span", {}, `← ${one.policies[0]}`), el("span", {}, `${one.policies[1]} →`)),
        el("div", { class: "said" }, "")));
    for (const [id, title] of rows) {
      const gap = one.gaps[id];
      const by = Math.abs(gap) < 1e-9 ? "the same" : `by ${Math.abs(gap).toLocaleString("en", { maximumFractionDigits: 2 })}`;
      const who = Math.abs(gap) < 1e-9 ? "" : `${one.policies[gap > 0 ? 0 : 1]} `;
      made.append(el("div", { class: "row" }, el("div", { class: "label" }, title), el("div", { class: "strip" }, bar(gap, reach)),
        el("div", { class: "said", title: `${who}${by}` }, by)));
    }
    return made;
  };

  const verdict = (said, one) => {
    const who = said.said === "tie" ? "a tie" : one.policies[said.said === "first" ? 0 : 1];
    const parts = [`${said.by}, ${said.how}: `, el("strong", {}, who)];
    if (said.share !== null) parts.push(` (${Math.round(100 * (said.said === "second" ? 1 - said.share : said.share))}%)`);
    if (said.shown !== null) parts.push(`; ${one.policies[said.shown === "first" ? 0 : 1]} stood first`);
    if (said.reason) parts.push("; ", el("q", { dir: "auto" }, said.reason));
    return el("li", {}, ...parts);
  };

  // What each annotator gave each of the two, in a table that stays closed until it is asked for.
  const scores = (one, number) => {
    const rated = one.verdicts.filter((said) => Object.keys(said.scores).length);
    if (!rated.length) return null;
    const cell = (said, id) => { const [a, b] = said.scores[id] || [null, null]; return `${a ?? "–"} / ${b ?? "–"}`; };
    const rows = data.principles.filter(([id]) => rated.some((said) => id in said.scores));
    return el("details", {}, el("summary", {}, "The scores"),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: scores of example ${number}` },
        el("table", {}, el("caption", {}, one.policies.join(" / ")),
          el("thead", {}, el("tr", {}, el("td", {}), ...rated.map((said) => el("th", { scope: "col" }, said.by)))),
          el("tbody", {}, ...rows.map(([id, title]) => el("tr", {}, el("th", { scope: "row" }, title),
            ...rated.map((said) => el("td", {}, cell(said, id)))))))));
  };

  const answer = (one, place, wanted) => {
    const won = one.won === (place ? "second" : "first");
    const state = won ? "✓ preferred" : one.won === "tie" ? "tie" : null;
    return el("div", { class: `answer ${place ? "second" : "first"}${won ? " won" : ""}` },
      el("h4", {}, el("span", {}, ...marked(one.policies[place], wanted)),
        state ? el("span", { class: "state" }, state) : null,
        el("span", { class: "length" }, `${[...one.texts[place]].length.toLocaleString("en")} characters`)),
      el("p", { class: "text", dir: "auto" }, ...marked(one.texts[place], wanted)));
  };

  const speakers = { system: "Setting", user: "Client", assistant: "Therapist" };
  const article = (one, number, wanted) => {
    const several = one.turns.length > 1;
    const turns = one.turns.flatMap((turn) => [
      several ? el("p", { class: "said-by" }, speakers[turn.role] || turn.role) : null,
      el("p", { class: "text", dir: "auto" }, ...marked(turn.text, wanted)),
    ]);
    const id = `example-${number}`;
    const tags = [
      one.topic !== null ? el("span", { class: "tag" }, ...marked(one.topic, wanted)) : null,
      ...one.marks.map((mark) => el("span", { class: mark.startsWith("risk:") ? "tag risk" : "tag" }, mark)),
      one.split ? el("span", { class: "tag" }, "judges disagree") : null,
    ];
    return el("article", { class: "example", "aria-labelledby": id },
      el("header", {}, el("h3", { id }, `Example ${number}`), ...tags),
      el("div", { class: "prompt" }, ...turns),
      el("div", { class: "answers" }, answer(one, 0, wanted), answer(one, 1, wanted)),
      ratings(one),
      one.verdicts.length ? el("ul", { class: "verdicts" }, ...one.verdicts.map((said) => verdict(said, one))) : null,
      scores(one, number));
  };

  const draw = (from) => {
    const wanted = pattern(field("search").value);
    if (!from) box.replaceChildren();
    found.slice(from, shown).forEach((place) => box.append(article(data.examples[place], place + 1, wanted)));
    const left = found.length - Math.min(shown, found.length);
    const more = document.getElementById("more");
    more.hidden = !left;
    more.textContent = `Show ${Math.min(PAGE, left)} more`;
    const number = data.examples.length;
    document.getElementById("found").textContent = found.length === number ? `${number} examples` : `${found.length} of ${number} examples`;
  };

  const filter = () => {
    const words = field("search").value.toLowerCase().split(/\s+/u).filter(Boolean);
    const chosen = (name, list) => (field(name).value === "" ? null : list[Number(field(name).value)]);
    const topic = chosen("topic", topics);
    const policy = chosen("policy", names);
    const principle = chosen("principle", data.principles);
    const won = field("winner").value;
    found = data.examples.map((one, place) => place).filter((place) => {
      const one = data.examples[place];
      return words.every((word) => searched[place].includes(word))
        && (topic === null || one.topic === topic)
        && (policy === null || one.policies.includes(policy))
        && (principle === null || Math.abs(one.gaps[principle[0]] || 0) > 1e-9)
        && (won === "" || (won === "tie" ? one.won === "tie" : winner(one) === names[Number(won)]))
        && (!field("split").checked || one.split);
    });
    if (principle !== null) {
      const gap = (place) => Math.abs(data.examples[place].gaps[principle[0]]);
      found.sort((a, b) => gap(b) - gap(a));
    }
    shown = PAGE;
    draw(0);
  };

  const form = document.getElementById("filters");
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("clear").addEventListener("click", () => { form.reset(); filter(); field("search").focus(); });
  document.getElementById("more").addEventListener("click", () => {
    const from = shown;
    shown += PAGE;
    draw(from);
    const next = box.children[from];
    if (next) { next.setAttribute("tabindex", "-1"); next.focus(); }
  });
  addEventListener("beforeprint", () => { if (found.length <= 50) { const from = shown; shown = Math.max(shown, found.length); draw(from); } });
  filter();
})();
