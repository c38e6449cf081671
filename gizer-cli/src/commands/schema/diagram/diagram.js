// What belongs together lights up together: a field and its columns.
(() => {
  const light = (element, on) => {
    const own = element.closest("[data-lit]");
    if (!own) return;
    const all = [own, ...own.dataset.lit.split(" ").map((id) => document.getElementById(id))];
    for (const each of all) if (each) each.classList.toggle("lit", on);
  };
  for (const [event, on] of [["mouseover", true], ["mouseout", false], ["focusin", true], ["focusout", false]]) {
    document.addEventListener(event, (e) => { if (e.target instanceof Element) light(e.target, on); });
  }
})();
