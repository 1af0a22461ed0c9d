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
