// The first screen: it is there with the first bytes, and goes when the page has been built behind it. A click on an example is kept
// and passed on to the same card of the page.
(words => {
    const screen = document.currentScript.parentElement;
    if (location.search) {  // A link opens something else.
        screen.remove();
        return;
    }
    const tag = navigator.languages.map(spoken => Object.keys(words).find(known => known.split("-")[0] === spoken.split("-")[0])).find(Boolean);
    const say = english => words[tag]?.[english] ?? english;
    for (const element of screen.querySelectorAll("[data-say], .card span")) element.textContent = say(element.textContent);
    let chosen;
    screen.addEventListener("click", ({target}) => {
        const card = target.closest(".card");
        if (!card) return;
        chosen?.setAttribute("aria-pressed", "false");
        chosen = card;
        chosen.setAttribute("aria-pressed", "true");
        screen.querySelector("[role=status]").hidden = false;
    });
    const replace = () => {
        const page = document.querySelector("gradio-app"), cards = page?.querySelector(".examples [data-ready]");
        if (!cards || !page.querySelector("#start, #stop")?.checkVisibility()) return;
        observer.disconnect();
        screen.remove();
        if (chosen) cards.querySelector(`[data-index="${chosen.dataset.index}"]`).click();
    };
    const observer = new MutationObserver(replace);
    observer.observe(document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ["data-ready", "class", "style"]});
})
