const REASONS = 50;
const state = JSON.parse(document.getElementById("state").textContent);
const rows = [];
let whenAdded = () => {};

function addRows(more) {
  for (const [uri, caption, percent, seconds, batch, content, error] of more) {
    rows.push({ uri, caption, percent, seconds, batch, content, error, words: null });
  }
  whenAdded();
}

(() => {
  const form = document.getElementById("filter");
  const grid = document.getElementById("cards");
  const count = document.getElementById("count");
  const none = document.getElementById("none");
  const reasons = document.getElementById("reasons");
  const allReasons = document.getElementById("all-reasons");
  const orders = {
    newest: null,
    oldest: (a, b) => a.seconds - b.seconds,
    sure: (a, b) => b.percent - a.percent,
    unsure: (a, b) => a.percent - b.percent,
  };
  let found = [];

  function gone() {
    return element("div", "no thumbnail: the picture was not there when this page was made", { class: "gone" });
  }

  function picture(row) {
    const embedded = state.pictures[row.content];
    if (!embedded && !state.thumbnails) return gone();
    const address = embedded || `${state.thumbnails}/${row.content.slice(0, 2)}/${row.content}.jpg`;
    const image = element("img", null, { src: address, alt: row.uri, loading: "lazy" });
    image.addEventListener("error", () => image.replaceWith(gone()));
    return image;
  }

  function card(row) {
    const made = element("article", null);
    const text = element("div", null, { class: "text" });
    text.append(element("h3", row.caption || "(no words)", { dir: "auto" }));
    const numbers = element("p", null, { class: "numbers" });
    numbers.append(
      element("b", `${row.percent} % per word`),
      element("span", `${state.batches[row.batch].date}, ${state.batches[row.batch].model}`),
      element("span", row.uri.slice(row.uri.lastIndexOf("/") + 1), { class: "name", title: row.uri }),
    );
    text.append(numbers);
    made.append(picture(row), text);
    return made;
  }

  const show = scrolling(grid, document.getElementById("more"), card);

  function apply() {
    const wanted = wordsOf(form.elements.word.value);
    const batch = form.elements.batch ? form.elements.batch.value : "";
    const matches = (row) => {
      if (row.error || (batch !== "" && row.batch !== Number(batch))) return false;
      if (!wanted.length) return true;
      row.words ??= wordsOf(`${row.caption} ${row.uri}`);
      return says(wanted, row.words);
    };
    found = rows.filter(matches);
    const order = orders[form.elements.order.value];
    if (order) found.sort(order);
    show(found);
    tell();
  }

  function tell() {
    const loading = rows.length < state.total ? `; ${formatted.format(rows.length)} of ${formatted.format(state.total)} rows read` : "";
    count.textContent = `${formatted.format(found.length)} pictures${loading}`;
    none.hidden = found.length > 0 || loading !== "";
  }

  function tellReasons(limit) {
    if (!reasons) return;
    const bad = rows.filter((row) => row.error);
    const items = bad.slice(0, limit).map((row) => {
      const item = element("li", row.uri);
      item.append(element("span", row.error));
      return item;
    });
    reasons.replaceChildren(...items);
    allReasons.hidden = bad.length <= limit;
    allReasons.textContent = `Show all ${formatted.format(bad.length)}`;
  }

  function load(number) {
    if (number >= state.files.length) {
      whenAdded = () => {};
      if (number > 1) apply();
      tellReasons(REASONS);
      return;
    }
    whenAdded = () => (number === 0 ? apply() : tell());
    const script = element("script", null, { src: state.files[number] });
    script.addEventListener("load", () => setTimeout(load, 0, number + 1));
    script.addEventListener("error", () => (count.textContent = `${state.files[number]} is missing: make the page again`));
    document.head.append(script);
  }

  useForm(form, apply);
  if (allReasons) allReasons.addEventListener("click", () => tellReasons(Infinity));
  addRows(state.rows);
  if (state.files.length) load(0);
  else {
    apply();
    tellReasons(REASONS);
  }
})();
