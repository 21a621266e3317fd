// Puts the verdicts of the page into a sheet; nothing is sent anywhere.
// A cell that a table would compute stands behind an apostrophe, as in checking.py.
const cell = (text) => `"${text.replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
document.getElementById("download").addEventListener("click", () => {
  const lines = ["sample,outcome,reason,words,verdict"];
  for (const card of document.querySelectorAll("[data-sample]")) {
    const chosen = card.querySelector("input:checked");
    const { sample, outcome, reason, words } = card.dataset;
    lines.push([sample, outcome, reason, words, chosen ? chosen.value : ""].map(cell).join(","));
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = "check.csv";
  link.click();
});
