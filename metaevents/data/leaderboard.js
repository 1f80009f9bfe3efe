"use strict";
/* The leaderboard page: sorting, the setting filter, and details that open and close. */
document.documentElement.classList.add("js");

document.addEventListener("DOMContentLoaded", () => {
  const tables = [...document.querySelectorAll("section.table")];
  const rows = (table) => [...table.querySelectorAll("tbody")];

  /* Sort a table; entries without a value come last in both directions. */
  function sort(table, heading, button) {
    const key = button.dataset.key;
    const now = heading.getAttribute("aria-sort");
    const first = "descending" in button.dataset ? "descending" : "ascending";
    const direction = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
    const sign = direction === "ascending" ? 1 : -1;
    const numeric = !["method", "setting"].includes(key);
    const compare = (a, b) => {
      const x = a.dataset[key], y = b.dataset[key];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (numeric ? x - y : x < y ? -1 : x > y ? 1 : 0);
    };
    const byRank = (a, b) => a.dataset.rank - b.dataset.rank;
    const body = table.querySelector("table");
    body.append(...rows(table).sort(byRank).sort(compare));
    table.querySelectorAll("thead th").forEach((th) => th.setAttribute("aria-sort", th === heading ? direction : "none"));
  }

  /* Show the entries of one setting, with the ranks, badges and comparisons of that setting. */
  function filter(setting) {
    let count = 0;
    for (const table of tables) {
      let shown = 0;
      for (const row of rows(table)) {
        row.hidden = setting !== "all" && row.dataset.setting !== setting;
        if (row.hidden) continue;
        shown += 1;
        const standing = JSON.parse(row.dataset.standings)[setting];
        row.querySelector(".number").textContent = standing.rank;
        row.querySelector(".against").textContent = standing.words;
        const badge = row.querySelector(".standing");
        badge.textContent = standing.badge;
        badge.hidden = !standing.badge;
      }
      table.querySelector("table").hidden = shown === 0;
      table.querySelector(".none").hidden = shown !== 0;
      count += shown;
    }
    const status = document.querySelector(".shown");
    if (status) status.textContent = count === 1 ? "1 entry shown" : `${count} entries shown`;
  }

  /* Open or close an entry's details. */
  function open(row, wanted) {
    row.querySelector(".opener").setAttribute("aria-expanded", String(wanted));
    row.querySelector("tr.details").classList.toggle("open", wanted);
  }

  /* Open the entry that the URL points to. */
  function follow() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.matches("tbody")) {
      open(target, true);
      target.scrollIntoView();
    }
  }

  for (const table of tables) {
    for (const heading of table.querySelectorAll("thead th")) {
      const button = heading.querySelector("button");
      button.addEventListener("click", () => sort(table, heading, button));
    }
    for (const row of rows(table)) {
      row.querySelector("tr.entry").addEventListener("click", (event) => {
        if (!event.target.matches(".opener") && String(getSelection())) return;  // the reader is selecting text
        open(row, row.querySelector(".opener").getAttribute("aria-expanded") !== "true");
      });
    }
  }
  const form = document.querySelector(".filter");
  if (form) {
    form.addEventListener("change", (event) => filter(event.target.value));
    form.reset();
    filter("all");
  }
  addEventListener("hashchange", follow);
  follow();
});
