// Cards of every image, made as one scrolls: for one model, or for two side by side.
function everyImage(state, { grid, count, none, more, form }) {
  const two = state.models.length === 2;
  const rows = state.rows.map(([name, id, picture, references, caption, cider, other, otherCider]) => ({
    name, id, picture, references, caption, cider, other, otherCider, words: null,
  }));
  const difference = (row) => (two ? row.cider - row.otherCider : row.cider);
  const orders = {
    best: (a, b) => difference(b) - difference(a),
    worst: (a, b) => difference(a) - difference(b),
    alike: (a, b) => Math.abs(difference(a)) - Math.abs(difference(b)),
  };

  function caption(text, cider, model, better) {
    const made = element("div", null, { class: better ? "said better" : "said" });
    if (two) made.append(element("p", model, { class: "who" }));
    made.append(element("h3", text || "(no words)", { dir: "auto" }));
    const numbers = element("p", null, { class: "numbers" });
    numbers.append(element("b", `CIDEr ${Math.round(cider)}`));
    made.append(numbers);
    return made;
  }

  function card(row) {
    const made = element("article", null);
    made.append(
      row.picture
        ? element("img", null, { src: row.picture, alt: row.name, loading: "lazy" })
        : element("div", "no thumbnail on this page", { class: "gone" }),
    );
    const text = element("div", null, { class: "text" });
    text.append(caption(row.caption, row.cider, state.models[0], two && row.cider > row.otherCider));
    if (two) text.append(caption(row.other, row.otherCider, state.models[1], row.otherCider > row.cider));
    const people = element("ul", null, { class: "references", "aria-label": "What people wrote" });
    people.append(element("li", "People wrote:", { class: "who" }));
    people.append(...row.references.map((reference) => element("li", reference, { dir: "auto" })));
    text.append(people, element("p", `${row.name}, image ${row.id}`, { class: "name" }));
    made.append(text);
    return made;
  }

  const show = scrolling(grid, more, card);

  return function apply() {
    const wanted = wordsOf(form.elements.word.value);
    const found = rows.filter((row) => {
      if (!wanted.length) return true;
      row.words ??= wordsOf([row.caption, row.other ?? "", ...row.references, row.name, row.id].join(" "));
      return says(wanted, row.words);
    });
    found.sort(orders[form.elements.order ? form.elements.order.value : "best"]);
    show(found);
    if (count) count.textContent = `${formatted.format(found.length)} pictures`;
    none.hidden = found.length > 0;
  };
}
