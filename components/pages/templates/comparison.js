(() => {
  const by = (id) => document.getElementById(id);
  const form = by("filter");
  const state = JSON.parse(by("state").textContent);
  const apply = everyImage(state, { grid: by("cards"), count: by("count"), none: by("none"), more: by("more"), form });
  useForm(form, apply);
  apply();
})();
