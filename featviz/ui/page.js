// A number that cannot be used does not become the nearest bound: the value before comes back, with a sentence.
() => {
    const numeric = target => target instanceof HTMLInputElement && target.type === "number";
    const refused = ({value, validity}) => value === "" || validity.badInput || validity.rangeUnderflow || validity.rangeOverflow;
    const block = input => input.closest(".block");
    const before = new WeakMap();
    document.addEventListener("focusin", ({target}) => {
        if (!numeric(target)) return;
        if (!refused(target)) before.set(target, target.value);
    });
    document.addEventListener("input", ({target}) => block(target)?.querySelector(".refused")?.remove());
    // While it goes down the tree, since Gradio sets its own value when the event arrives.
    document.addEventListener("blur", ({target}) => {
        if (!numeric(target) || !before.has(target) || !refused(target)) return;
        const {min, max, value} = target, kept = before.get(target);
        const range = min && max ? ` from ${min} to ${max}` : min ? ` of at least ${min}` : "";
        target.value = kept;
        target.dispatchEvent(new Event("input", {bubbles: true}));
        const sentence = Object.assign(document.createElement("p"), {
            className: "refused",
            textContent: `${value || "That"} cannot be used; expected a number${range}. ${kept} is kept.`,
        });
        sentence.setAttribute("role", "status");
        block(target)?.append(sentence);
    }, true);
}
