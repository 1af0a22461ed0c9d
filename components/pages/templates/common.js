"use strict";
// What the pages share: how words are looked for, and the keyboard.
const wordsOf = (text) =>
  text.normalize("NFC").toLowerCase().replaceAll("’", "'").split(/[^\p{L}\p{M}\p{N}'\u200c\u200d-]+/u).filter(Boolean);
// A word is looked for from its beginning; where words have no spaces between them, anywhere.
const unspaced = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmr}\p{sc=Mymr}]/u;
const finds = (word, text) => (unspaced.test(word) ? text.includes(word) : text.startsWith(word));
const says = (wanted, words) => wanted.every((word) => words.some((other) => finds(word, other)));

function useForm(form, apply) {
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
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
}

const formatted = new Intl.NumberFormat("en");

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Shows rows as cards, some at a time, as one scrolls to the element `more`. Returns what shows other rows.
function scrolling(grid, more, card) {
  const STEP = 60;
  let rows = [];
  let shown = 0;
  const lookAgain = () => {
    observer.unobserve(more); // the end may still be in sight
    observer.observe(more);
  };
  const observer = new IntersectionObserver(
    (entries) => {
      if (shown >= rows.length || !entries.some((entry) => entry.isIntersecting)) return;
      grid.append(...rows.slice(shown, shown + STEP).map(card));
      shown += STEP;
      lookAgain();
    },
    { rootMargin: "1500px" },
  );
  return (others) => {
    rows = others;
    grid.replaceChildren(...rows.slice(0, STEP).map(card));
    shown = STEP;
    lookAgain();
  };
}
