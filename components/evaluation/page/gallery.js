"use strict";
(() => {
  const form = document.getElementById("filter");
  const count = document.getElementById("count");
  const sections = [...document.querySelectorAll("section.pictures")];
  const words = (text) =>
    text.normalize("NFC").toLowerCase().replaceAll("’", "'").split(/[^\p{L}\p{M}\p{N}'\u200c\u200d-]+/u).filter(Boolean);
  // A word is looked for from its beginning; where words have no spaces between them, anywhere.
  const unspaced = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmr}\p{sc=Mymr}]/u;
  const finds = (word, text) => (unspaced.test(word) ? text.includes(word) : text.startsWith(word));
  const cards = new Map(
    [...document.querySelectorAll("article")].map((card) => [
      card,
      { words: words(card.dataset.text), cider: "cider" in card.dataset ? Number(card.dataset.cider) : null },
    ]),
  );
  const bound = (input, otherwise) => (input.value === "" ? otherwise : Number(input.value));

  function apply() {
    const wanted = words(form.elements.word.value);
    const low = bound(form.elements.low, -Infinity);
    const high = bound(form.elements.high, Infinity);
    const anyScore = low === -Infinity && high === Infinity;
    let shown = 0;
    for (const [card, facts] of cards) {
      const says = wanted.every((word) => facts.words.some((other) => finds(word, other)));
      const scores = facts.cider === null ? anyScore : facts.cider >= low && facts.cider <= high;
      card.hidden = !(says && scores);
      shown += says && scores;
    }
    for (const section of sections) {
      section.querySelector(".none").hidden = section.querySelector("article:not([hidden])") !== null;
    }
    count.textContent = shown === cards.size ? `${shown} pictures` : `${shown} of ${cards.size} pictures`;
  }

  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement;
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      form.elements.word.focus();
    } else if (event.key === "Escape" && typing) {
      form.reset();
    }
  });
  apply();
})();
