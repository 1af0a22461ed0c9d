(() => {
  const form = document.getElementById("filter");
  const count = document.getElementById("count");
  const sections = [...document.querySelectorAll("section.pictures")];
  const cards = new Map(
    [...document.querySelectorAll("article")].map((card) => [
      card,
      { words: wordsOf(card.dataset.text), cider: "cider" in card.dataset ? Number(card.dataset.cider) : null },
    ]),
  );
  const bound = (input, otherwise) => (input.value === "" ? otherwise : Number(input.value));

  const by = (id) => document.getElementById(id);
  const places = { grid: by("all-cards"), none: by("all-none"), more: by("all-more"), form };
  const state = JSON.parse(by("state").textContent);
  const applyToAll = state.rows.length ? everyImage(state, places) : () => {};

  function apply() {
    applyToAll();
    const wanted = wordsOf(form.elements.word.value);
    const low = bound(form.elements.low, -Infinity);
    const high = bound(form.elements.high, Infinity);
    const anyScore = low === -Infinity && high === Infinity;
    let shown = 0;
    for (const [card, facts] of cards) {
      const scores = facts.cider === null ? anyScore : facts.cider >= low && facts.cider <= high;
      card.hidden = !(says(wanted, facts.words) && scores);
      shown += !card.hidden;
    }
    for (const section of sections) {
      section.querySelector(".none").hidden = section.querySelector("article:not([hidden])") !== null;
    }
    count.textContent = shown === cards.size ? `${shown} pictures` : `${shown} of ${cards.size} pictures`;
  }

  useForm(form, apply);
  apply();
})();
