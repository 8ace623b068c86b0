// The atlas: channels with what they look for, and a search for them. `choose` is called with the channel that was clicked.
featviz.atlas = (element, props, server, watch, choose) => {
    const words = (key, values = {}) => featviz.say(`atlas_${key}`, values);
    const {make} = featviz;
    const search = make("input", {type: "search", maxLength: 100, placeholder: words("search")});
    const note = make("p"), list = make("div", {className: "channels"});
    search.setAttribute("aria-label", words("search"));
    note.setAttribute("role", "status");
    element.replaceChildren(make("div", {className: "atlas"}, search, note, list));

    let asked = "", found = [];
    const sentence = (text, {layers}) => {
        if (!found.length) return words("none", {text});
        const how = words(Object.values(layers).some(({sheet}) => sheet) ? "both" : "natural");
        return `${found[0][2] ? words("classes", {text}) : words("count", {count: found.length})} ${how}`;
    };
    const find = async text => {
        if (!text || text === asked) return;
        search.value = asked = text;
        const answer = await featviz.answer(server.find_channels({text}), words("failed"));
        if (text !== asked) return; // Another text was searched meanwhile.
        if (answer.error) asked = "";
        found = answer.found ?? [];
        note.textContent = answer.error ?? sentence(text, answer);
        const several = Object.keys(answer.layers ?? {}).length > 1;
        list.replaceChildren(...found.map(([layer, channel, name], i) => {
            const title = several ? `${layer.split("/")[1]} ${channel}` : `${channel}`;
            const button = make("button", {type: "button", value: i},
                make("span", {className: "thumbs"}, ...featviz.thumbs(answer.layers[layer], channel)), make("span", {textContent: [title, name].filter(Boolean).join(" · ")}));
            button.setAttribute("aria-label", `${layer.replace("/", " ")}, ${channel} ${name}`);
            return button;
        }));
    };
    search.addEventListener("change", () => find(search.value));
    list.addEventListener("click", ({target}) => {
        const button = target.closest("button");
        if (!button) return;
        const [layer, channel] = found[button.value];
        choose({layer, channel});
    });
    watch("value", () => find(props.value));
    find(props.value);
};
