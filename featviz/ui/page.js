// A number that is not accepted is not clamped: the previous value comes back, with a sentence.
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
    // In the capture phase, because Gradio sets its own value when the event arrives.
    document.addEventListener("blur", ({target}) => {
        if (!numeric(target) || !before.has(target) || !refused(target)) return;
        const {min, max, value} = target, kept = before.get(target);
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
