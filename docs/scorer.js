// How the search of the built pages orders what it finds: a title that has the words of the question comes first.
// Sphinx leaves "own", "which" and "what" out of its index; in a title they count here. The numbers are those of Sphinx.
var Scorer = {
  score: (result) => {
    const [, title, , , score] = result;
    const words = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
    const asked = words(new URLSearchParams(location.search).get("q") ?? "");
    const there = words(title);
    const begins = (word) => word.slice(0, Math.max(3, word.length - 1)); // photo = photos, tune = tuning
    const found = asked.filter((word) => there.some((other) => other.startsWith(begins(word))));
    return score + (asked.length ? (20 * found.length) / asked.length : 0);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
