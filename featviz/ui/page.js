// A number that is not accepted is not clamped: the previous value comes back, with a sentence.
() => {
    const numeric = target => target instanceof HTMLInputElement && target.type === "number";
    const refused = ({value, validity}) => value === "" || validity.badInput || validity.rangeUnderflow || validity.rangeOverflow;
    const block = input => input.closest(".block");
    const before = new WeakMap(), typed = new WeakMap();
    document.addEventListener("focusin", ({target}) => {
        if (!numeric(target)) return;
        if (!refused(target)) before.set(target, target.value);
    });
    // Gradio 6.31 opens a long list near its end. Scroll to the chosen option until the visitor acts.
    document.addEventListener("focusin", ({target}) => {
        if (target.getAttribute("role") !== "combobox" && target.getAttribute("role") !== "listbox") return;
        let frames = 60;
        const stop = () => { frames = 0; };
        ["wheel", "keydown", "pointerdown"].forEach(type => document.addEventListener(type, stop, {once: true, capture: true}));
        const scroll = () => {
            if (frames-- <= 0) return;
            const list = document.getElementById(target.getAttribute("aria-controls"));
            const chosen = list?.querySelector("[aria-selected=true]");
            if (chosen) list.scrollTop = chosen.offsetTop - (list.clientHeight - chosen.offsetHeight) / 2;
            requestAnimationFrame(scroll);
        };
        requestAnimationFrame(scroll);
    });
    // Text that is no number yet, such as "1e" on the way to 1e9, has the value "". Gradio would write its own value into the box.
    document.addEventListener("input", event => {
        if (!numeric(event.target)) return;
        typed.set(event.target, event.target.value);
        if (event.target.validity.badInput) event.stopImmediatePropagation();
    }, true);
    document.addEventListener("input", ({target}) => block(target)?.querySelector(".refused")?.remove());
    // In the capture phase, because Gradio sets its own value when the event arrives.
    document.addEventListener("blur", ({target}) => {
        if (!numeric(target) || !before.has(target) || !refused(target)) return;
        const {min, max} = target, kept = before.get(target), value = typed.get(target); // Gradio may have rewritten 1e9 as 1000000000.
        const range = min && max ? ` from ${min} to ${max}` : min ? ` of at least ${min}` : "";
        target.value = kept;
        target.dispatchEvent(new Event("input", {bubbles: true}));
        const sentence = Object.assign(document.createElement("p"), {
            className: "refused",
            textContent: `${value || "This"} is not accepted; expected a number${range}. The value stays ${kept}.`,
        });
        sentence.setAttribute("role", "status");
        block(target)?.append(sentence);
    }, true);
}
