// What the page does in the browser: it keeps the visitor's pictures and settings over a reload, shares results, and refuses
// numbers with a sentence. Python calls these functions by `js=` of an event.
const featviz = {
    // Pictures are kept in IndexedDB, under the id of their box.
    store(mode, use) {
        return new Promise(resolve => {
            const opening = indexedDB.open("featviz", 1);
            opening.onerror = () => resolve(undefined);
            opening.onupgradeneeded = () => opening.result.createObjectStore("pictures");
            opening.onsuccess = () => {
                const request = use(opening.result.transaction("pictures", mode).objectStore("pictures"));
                request.onsuccess = () => resolve(request.result);
                request.onerror = () => resolve(undefined);
            };
        });
    },
    words: navigator.languages.map(tag => Object.keys(FEATVIZ_WORDS).find(key => key.split("-")[0] === tag.split("-")[0]))
        .filter(Boolean).map(key => FEATVIZ_WORDS[key])[0] ?? FEATVIZ_WORDS.en,
    boxes: [],
    here: false,
    kept: {},

    // When the page opens: upload the kept pictures again, since the server may be another one by now.
    async arrive([visitor, history, job, ...pictures], boxes) {
        featviz.boxes = boxes;
        const {root, api_prefix} = window.gradio_config;
        await Promise.all(boxes.map(async (box, i) => {
            const blob = await featviz.store("readonly", store => store.get(box));
            if (!blob) return;
            const form = new FormData();
            form.append("files", blob, "picture");
            const answer = await fetch(`${root}${api_prefix}/upload`, {method: "POST", body: form});
            if (answer.ok) pictures[i] = {path: (await answer.json())[0], meta: {_type: "gradio.FileData"}};
        }));
        return [visitor, history, job, ...pictures];
    },

    // The server has read the address, which may change from now on.
    arrived() {
        featviz.here = true;
        if (!location.search.includes("recipe=")) featviz.remember();
    },

    // After each change of the settings: write them into the address.
    remember() {
        const link = document.querySelector("#estimate [data-link]")?.dataset.link;
        if (link && featviz.here) window.history.replaceState(window.history.state, "", location.pathname + link);
    },

    // After each change of a picture: keep it, or delete the one that was removed.
    keep(files) {
        files.forEach(async (file, i) => {
            const box = featviz.boxes[i];
            if (featviz.kept[box] === file?.url) return;
            featviz.kept[box] = file?.url;
            const blob = file && await (await fetch(file.url)).blob();
            await featviz.store("readwrite", store => blob ? store.put(blob, box) : store.delete(box));
        });
        return [];
    },

    forget() {
        featviz.store("readwrite", store => store.clear());
        return [];
    },

    showResult(values) {
        const narrow = window.innerWidth < 700;
        setTimeout(() => {
            if (narrow) document.getElementById("result").scrollIntoView({behavior: "smooth", block: "start"});
        }, 150);
        const focus = tries => {
            const stop = document.getElementById("stop");
            if (stop) stop.focus({preventScroll: true});
            else if (tries) setTimeout(focus, 100, tries - 1);
        };
        setTimeout(focus, 50, 100);
        return values;
    },

    // Stop is gone, and with it the focus.
    ended() {
        if (document.activeElement === document.body) document.querySelector("#start")?.focus({preventScroll: true});
    },

    showChannel() {
        requestAnimationFrame(() => {
            const title = document.querySelector("#channel h3");
            title?.scrollIntoView({behavior: "smooth", block: "start"});
            title?.focus({preventScroll: true});
        });
    },

    async copyLink() {
        const link = location.href;
        try {
            await navigator.clipboard.writeText(link);
            return `<p role="status">${featviz.words.copied}</p>`;
        } catch {  // Browsers may forbid it, and all do without https.
            return `<p>${featviz.words.copy_from} <input aria-label="Link" readonly value="${link}" onfocus="this.select()"></p>`;
        }
    },

    // The file goes to the share sheet of the phone, with its recipe inside.
    async send(file) {
        const blob = await (await fetch(file.url)).blob();
        const files = [new File([blob], file.orig_name || file.url.split("/").pop(), {type: blob.type})];
        if (!navigator.canShare?.({files})) return `<p role="status">${featviz.words.no_sharing}</p>`;
        await navigator.share({files, title: document.title}).catch(() => {});
        return "";
    },
};

// A time by the clock of the browser. In a shadow root, because Gradio updates HTML by its differences and would remove the text.
customElements.define("featviz-time", class extends HTMLElement {
    static observedAttributes = ["at"];
    attributeChangedCallback() {
        const at = new Date(1000 * this.getAttribute("at")), today = at.toDateString() === new Date().toDateString();
        (this.shadowRoot ?? this.attachShadow({mode: "open"})).textContent = today
            ? at.toLocaleTimeString([], {hour: "2-digit", minute: "2-digit"})
            : at.toLocaleDateString([], {day: "numeric", month: "short"});
    }
});

// A number that is not accepted is not clamped: the previous value comes back, with a sentence.
(() => {
    const numeric = target => target instanceof HTMLInputElement && target.type === "number";
    const refused = ({value, validity}) => value === "" || validity.badInput || validity.rangeUnderflow || validity.rangeOverflow;
    const block = input => input.closest(".block");
    const before = new WeakMap(), typed = new WeakMap();
    document.addEventListener("focusin", ({target}) => {
        if (numeric(target) && !refused(target)) before.set(target, target.value);
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
        const filled = (key, values) => Object.entries(values).reduce((text, [name, of]) => text.replace(`{${name}}`, of), featviz.words[key]);
        const range = min && max ? filled("refused_range", {min, max}) : min ? filled("refused_least", {min}) : "";
        target.value = kept;
        target.dispatchEvent(new Event("input", {bubbles: true}));
        const sentence = Object.assign(document.createElement("p"), {
            className: "refused",
            textContent: filled("refused", {value: value || "–", range, kept}),
        });
        sentence.setAttribute("role", "status");
        block(target)?.append(sentence);
    }, true);
})();
